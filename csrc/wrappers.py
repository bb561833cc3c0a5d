"""Cython wrappers of C functions, from the `@kernel` functions of pdcode/kernels/*.pyx and wrapper.pyx.tp.

A kernel declares the types and sizes of its arguments, and the call of the C function:

    @kernel
    def scale_rows(x: rows(real[N, M]), factors: real[N], out: writeable(real[N, M]), power: int) -> double:
        '''Docstring.'''
        require(power >= 0)
        return scale_rows(x, N, M, stride(x), factors, out, power)

`real` is float32 or float64, the same for all arrays, and calls scale_rows_f32 or scale_rows_f64. An axis
has the size that its name has elsewhere, or that an expression of sizes and numbers gives. Arrays are
C-ordered; with `rows` each row is contiguous, at any `stride`, and with `strided` no axis need be. An
`optional` array may be None. In the body an array is its pointer, and [a, b] a pointer to numbers of type
uint64_t. Lines before the last one are conditions, or calls of functions of the module. These may call
`c_scale_rows(wide, …)`, too.
"""

import ast
import re
from pathlib import Path

from Cython.Tempita import Template

TEMPLATE = Template(Path(__file__).with_name("wrapper.pyx.tp").read_text())
KERNEL = re.compile(r"^@kernel\n(def .*\n(?: .*\n|\n)*)", re.M)
NUMPY = {f"{each}_t": f"cnp.NPY_{each.upper()}" for each in ("uint8", "int32", "int64", "uint64")}
NUMPY |= {"double": "cnp.NPY_FLOAT64", "float": "cnp.NPY_FLOAT32"}
NUMPY["real"] = "real"  # a variable of the wrapper
CHECKS = {"rows": "has_rows", "strided": "is_strided"}


class Array:
    """Argument that is an array."""

    def __init__(self, name: str, annotation: ast.expr) -> None:
        marks = []
        while isinstance(annotation, ast.Call):
            marks.append(annotation.func.id)
            (annotation,) = annotation.args
        axes = annotation.slice
        self.name, self.type, self.optional = name, annotation.value.id, "optional" in marks
        self.sizes = [ast.unparse(each) for each in (axes.elts if isinstance(axes, ast.Tuple) else [axes])]
        check = next((CHECKS[each] for each in marks if each in CHECKS), "is_c_contiguous")
        self.pointer = "void *" if self.type == "real" else f"{self.type} *"
        self.check = f"{check}({name}, {NUMPY[self.type]}, {len(self.sizes)})"
        if "writeable" in marks:
            self.check += f" and cnp.PyArray_ISWRITEABLE(<cnp.ndarray> {name})"
        else:
            self.pointer = f"const {self.pointer}"
        if self.optional:
            self.check = f"({name} is None or {self.check})"


class Kernel(ast.NodeTransformer):
    """Kernel, as the template needs it; the transformer turns expressions of the body into Cython."""

    def __init__(self, text: str) -> None:
        (function,) = ast.parse(text).body
        parameters, result = function.args, function.returns
        self.text, self.name, self.doc = text, function.name, ast.get_docstring(function, clean=False)
        self.result = ast.unparse(result) if result else "void"
        self.signature = f"{self.name}({ast.unparse(parameters)})" + (f" -> {self.result}" if result else "")
        self.parameters, self.arrays, self.numbers = [], {}, {}
        required = len(parameters.args) - len(parameters.defaults)
        for place, parameter in enumerate(parameters.args):
            name, annotation = parameter.arg, parameter.annotation
            if isinstance(annotation, ast.Name):
                self.numbers[name] = annotation.id
                self.parameters.append(f"{annotation.id} {name}")
            else:
                self.arrays[name] = Array(name, annotation)
                self.parameters.append(name)
            if place >= required:
                self.parameters[-1] += f"={ast.unparse(parameters.defaults[place - required])}"
        self.real = next((name for name, each in self.arrays.items() if each.type == "real"), "")
        self.sizes, self.equal = {}, []
        for name, array in self.arrays.items():
            for axis, size in enumerate(array.sizes):
                if size.isidentifier() and size not in {**self.numbers, **self.sizes}:
                    self.sizes[size] = f"dim({name}, {axis})"
                else:
                    unless = f"{name} is None or " if array.optional else ""
                    self.equal.append(f"({unless}dim({name}, {axis}) == {size})")
        self.strides, self.lists = {}, []
        *lines, call = (each.value for each in function.body[1:])
        self.lines = [self.line(each) for each in lines]
        self.function = call.func.id
        self.types = ["bint"] * bool(self.real) + [self.type_of(each) for each in call.args]
        self.call = ", ".join(
            ["wide"] * bool(self.real) + [ast.unparse(self.visit(each)) for each in call.args]
        )

    def line(self, call: ast.Call) -> tuple[str, str, list[str]]:
        """Return a line of the body; of a condition, also its text and the names of the numbers in it."""
        if call.func.id != "require":
            return ast.unparse(self.visit(call)), "", []
        (condition,) = call.args
        text = " ".join(ast.get_source_segment(self.text, condition).split())
        numbers = [name for name in {**self.numbers, **self.sizes} if re.search(rf"\b{name}\b", text)]
        return ast.unparse(self.visit(condition)), text, numbers

    def type_of(self, argument: ast.expr) -> str:
        """Return the type of an argument of the C function."""
        if isinstance(argument, ast.Name) and argument.id in self.arrays:
            return self.arrays[argument.id].pointer
        if isinstance(argument, ast.List):
            return "const uint64_t *"
        return self.numbers.get(ast.unparse(argument), "Py_ssize_t")

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(f"{node.id}_") if node.id in self.arrays else node

    def visit_List(self, node: ast.List) -> ast.Name:
        self.lists.append([ast.unparse(each) for each in node.elts])
        return ast.Name(f"list_{len(self.lists) - 1}")

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if node.func.id != "stride":
            return self.generic_visit(node)
        array, axis = [*map(ast.unparse, node.args), "0"][:2]
        self.strides[f"stride_{array}_{axis}"] = f"stride({array}, {axis})"
        return ast.Name(f"stride_{array}_{axis}")


def expand(source: str, header: str) -> str:
    """Replace the kernels of a module by their wrappers; a header declares their C functions."""
    head, *pieces = KERNEL.split(source)
    if not pieces:
        return source
    kernels, rests = [Kernel(text) for text in pieces[::2]], pieces[1::2]
    doc, _, head = head.partition('"""\n\n')
    functions = {each.function: each for each in kernels}.values()
    return TEMPLATE.substitute(
        doc=doc,
        head=head,
        header=header,
        functions=list(functions),
        kernels=list(zip(kernels, rests, strict=True)),
    )
