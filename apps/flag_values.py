"""Read values on the command line, fractions such as 8/255 included."""

import ast

from absl import flags
from ml_collections import config_flags
from ml_collections.config_flags import tuple_parser


class NumberParser(flags.FloatParser):
    """Parse a float: a number, or one number over another."""

    syntactic_help = "a number or a fraction such as 8/255"

    def convert(self, argument):
        """Return the float that a text stands for."""
        return super().convert(_divided(argument))


class TupleParser(tuple_parser.TupleParser):
    """Parse a tuple whose numbers may be fractions."""

    def parse(self, argument):
        """Return the tuple that a text stands for."""
        return super().parse(_divided(argument))


class LiteralParser(flags.ArgumentParser):
    """Parse what Python would write, fractions included; else a text."""

    syntactic_help = "a number, tuple, True, None and so on, or a text"

    def parse(self, argument):
        """Return the value that a text stands for."""
        try:
            return ast.literal_eval(_divided(argument))
        except (SyntaxError, ValueError):
            return argument


def register():
    """Let every value of a config be written in these ways."""
    config_flags.register_flag_parser_for_type(object, LiteralParser())
    config_flags.register_flag_parser_for_type(float, NumberParser())
    config_flags.register_flag_parser_for_type(tuple, TupleParser())


class _Division(ast.NodeTransformer):
    """Replace divisions of numbers by their results."""

    def visit_BinOp(self, node):
        self.generic_visit(node)
        parts = (node.left, node.right)
        if not isinstance(node.op, ast.Div) or not all(map(_is_number, parts)):
            return node
        return ast.Constant(node.left.value / node.right.value)


def _is_number(node):
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def _divided(value):
    """Return a text with its fractions worked out, or anything as it is."""
    if not isinstance(value, str) or "/" not in value:
        return value
    try:
        divided = _Division().visit(ast.parse(value.strip(), mode="eval"))
        ast.literal_eval(divided)
        return ast.unparse(divided)
    except (SyntaxError, ValueError):  # A path, for example.
        return value
    except ArithmeticError as error:
        raise ValueError(f"{error} in {value}") from None
