"""Finds the mutants of projections.hpp, and writes a header that holds many of them at once.

Where an expression begins and ends, and what type it has, says clang's syntax tree; the mutants are written into
the text: `a < b` becomes `(mutant 17 ? (a <= b) : (a < b))`, so that one compilation serves them all and each costs
one run. Nothing depends on line numbers: a mutant is known by its function, the text of its line and what is
changed there.
"""

import json
import re
import subprocess

# As macros, because in a constant expression only the original may be asked for. Which mutant is on is known before
# main(): the tables of the header with a mutant in them are made then, after what stands above them.
PRELUDE = """
#ifndef PROJECTIONS_MUTATION_
#define PROJECTIONS_MUTATION_
#include <stdlib.h>
namespace projections_mutation {
inline constexpr unsigned mutants_max = 1 << 14;
inline const char* const chosen = getenv("PROJECTIONS_MUTANT");
inline const unsigned active = chosen != nullptr ? static_cast<unsigned>(atoi(chosen)) : 0;
inline unsigned char reached[mutants_max]{};
inline bool is_on(unsigned n) { reached[n] = 1; return n == active; }
}
#define PJM_(n) (__builtin_expect(::projections_mutation::is_on(n), 0))
#define PJMC_(n) (!__builtin_is_constant_evaluated() && PJM_(n))
#endif
"""

RELATIONS = {"<": ("<=", ">="), "<=": ("<", ">"), ">": (">=", "<="), ">=": (">", "<"), "==": ("!=",), "!=": ("==",)}
ARITHMETIC = {"+": "-", "-": "+", "*": "/", "/": "*", "%": "*", "<<": ">>", ">>": "<<", "&": "|", "|": "&",
              "^": "&"}
ASSIGNMENTS = {"+=": "-=", "-=": "+=", "|=": "&=", "&=": "|=", "*=": "+=", "/=": "*=", ">>=": "<<=", "<<=": ">>="}
# What `return {}` makes of these is another answer, and compiles.
EMPTY_RETURNS = ("text", "tick_result", "receive_result", "counters", "progress", "bytes", "const char *")
INTEGERS = re.compile(r"(?:const )?(?:u?int\d+_t|size_t|(?:unsigned )?(?:int|long|char)|position|event_count)$")
SKIPPED = {"StaticAssertDecl", "EnumDecl", "TemplateArgument", "ConstantExpr", "TypedefDecl", "TypeAliasDecl",
           "ClassTemplateSpecializationDecl", "ClassTemplatePartialSpecializationDecl", "VarTemplateDecl",
           "VarTemplateSpecializationDecl", "VarTemplatePartialSpecializationDecl", "NonTypeTemplateParmDecl",
           "TemplateTypeParmDecl", "FullComment",
           "CXXDefaultInitExpr", "CXXDefaultArgExpr", "TypeAliasTemplateDecl", "CXXDeductionGuideDecl"}
FUNCTIONS = ("FunctionDecl", "CXXMethodDecl", "CXXConstructorDecl", "CXXConversionDecl")
TRANSPARENT = {"ImplicitCastExpr", "ParenExpr", "ExprWithCleanups", "MaterializeTemporaryExpr", "CXXBindTemporaryExpr"}
# Their constexpr members run in the compiler only: a switch at run time cannot reach them.
COMPILED = {"built_routes", "compiled_routes", "name_of_type", "spelled", "declared_type", "version_before",
            "handler_name", "name_count", "handled_types", "on_of", "look_for_on", "has_own_on", "has_on",
            "demand_on", "raw_event", "to_string", "slots_for"}


class Mutant:
    """`write(name, inner)` gives the text of the range: `name` asks whether it is on, `inner` is what stands
    there, with the mutants inside of it. `level`: of those with one range, the higher is outside."""

    def __init__(self, begin, end, level, function, line, what, write, is_constant=False, is_compiled=False,
                 plain=None):
        self.begin, self.end, self.level = begin, end, level
        self.function, self.line, self.what = function, line, what
        self.write, self.is_constant, self.is_compiled = write, is_constant, is_compiled
        self.plain = plain      # the mutated text alone, to be compiled by itself
        self.number = 0
        self.guarantee = None

    @property
    def key(self):
        return self.function, self.line, self.what

    def __str__(self):
        return f"{self.function}: {self.line}\n    {self.what}"


def syntax_tree(header, compiler="clang++"):
    command = [compiler, "-std=c++17", "-Xclang", "-ast-dump=json", "-fsyntax-only", "-x", "c++",
               str(header)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        raise SystemExit("mutation: " + done.stderr.decode()[-2000:])
    return json.loads(done.stdout)


class Finder:
    def __init__(self, header, tree):
        self.text = header.read_bytes().decode("latin-1")
        self.found = {}
        self.enums = {}
        namespaces = [n for n in tree["inner"] if n.get("kind") == "NamespaceDecl" and n.get("name") == "projections"]
        for namespace in namespaces:
            self.learn_enums(namespace)
        for namespace in namespaces:
            self.walk(namespace, "", False, False)

    def mutants(self):
        result = sorted(self.found.values(), key=lambda m: (m.begin, -m.end, m.what))
        times = {}
        for m in result:        # the same change twice in one line
            times[m.key] = times.get(m.key, 0) + 1
            if times[m.key] > 1:
                m.what += f" [{times[m.key]}]"
        return result

    # ---- the tree

    def learn_enums(self, node):
        if node.get("kind") == "EnumDecl":
            constants = [c for c in node.get("inner", ()) if c.get("kind") == "EnumConstantDecl"]
            for one, other in zip(constants, constants[1:] + constants[:1]):
                self.enums[one["id"]] = other["name"]
        for child in node.get("inner", ()):
            self.learn_enums(child)

    def range_of(self, node):
        """Where the text of the node stands; None if a macro made it."""
        r = node.get("range", {})
        begin, end = r.get("begin", {}), r.get("end", {})
        if "offset" not in begin or "offset" not in end:
            return None
        return begin["offset"], end["offset"] + end["tokLen"]

    def source(self, node):
        r = self.range_of(node)
        return self.text[r[0]:r[1]] if r else None

    @staticmethod
    def stripped(node):
        while node.get("kind") in TRANSPARENT and len(node.get("inner", ())) == 1:
            node = node["inner"][0]
        return node

    @staticmethod
    def type_of(node):
        return re.sub(r"\bprojections::|v\d\w*::|detail::", "", node.get("type", {}).get("qualType", ""))

    def add(self, node, level, what, write, plain, is_statement=False):
        r = self.range_of(node)
        if r is None:
            return
        begin, end = r
        if is_statement:
            semicolon = re.compile(r"\s*;").match(self.text, end)
            if not semicolon:
                return
            end = semicolon.end()
        line_begin = self.text.rfind("\n", 0, begin) + 1
        line = self.text[line_begin:self.text.find("\n", begin)].split("//")[0].strip()
        what = " ".join(what.split())
        key = begin, end, what
        if key not in self.found:
            self.found[key] = Mutant(begin, end, level, self.function, line, what, write, self.is_constant,
                                     self.is_compiled, plain)

    def swap(self, node, other, level=0):
        """The other expression in place of this one, both of one type."""
        mine = self.source(node)
        if mine is not None and other is not None:
            self.add(node, level, f"{mine} -> {other}", lambda on, x: f"({on} ? ({other}) : ({x}))", f"({other})")

    def truth(self, node, value):
        mine = self.source(node)
        if mine is not None:
            write = (lambda on, x: f"({on} || ({x}))") if value else (lambda on, x: f"(!{on} && ({x}))")
            self.add(node, 1, f"{mine} -> {str(value).lower()}", write, str(value).lower())

    def walk(self, node, function, is_constant, is_compiled):
        kind = node.get("kind")
        if kind is None or kind in SKIPPED or node.get("isImplicit"):
            return
        if kind == "VarDecl" and node.get("constexpr"):
            return
        if kind in FUNCTIONS:
            function = (function + "::" if function else "") + node.get("name", "")
            is_constant = bool(node.get("constexpr"))
            is_compiled = is_constant and bool(COMPILED & set(function.split("::")))
        elif kind in ("CXXRecordDecl",):
            function = (function + "::" if function else "") + node.get("name", "")
            is_constant = True      # initializers of members
            is_compiled = bool(COMPILED & set(function.split("::")))
        elif kind in ("FieldDecl", "ParmVarDecl"):
            is_constant = True
        self.function, self.is_constant, self.is_compiled = function, is_constant, is_compiled
        getattr(self, "at_" + kind, lambda node: None)(node)
        children = node.get("inner", ())
        if kind == "FunctionTemplateDecl":
            children = [c for c in children if c.get("kind") in FUNCTIONS][:1]
        elif kind == "LambdaExpr":
            children = [c for c in children if c.get("kind") == "CompoundStmt"][:1]
        elif kind == "CXXForRangeStmt":
            self.statement(children[-1])
            children = children[-1:]
        elif kind == "IfStmt" and node.get("isConstexpr"):
            children = children[1:]
        for child in children:
            self.walk(child, function, is_constant, is_compiled)

    # ---- what is mutated

    def condition(self, node):
        if self.stripped(node).get("opcode") in ("&&", "||"):
            return
        self.truth(node, True)
        self.truth(node, False)

    def statement(self, node):
        """An expression that is a statement can be left out."""
        kind = node.get("kind", "")
        if not kind.endswith(("Expr", "Operator")) or kind in ("NullStmt",):
            return
        inner = self.stripped(node)
        if inner.get("kind") in ("CXXStaticCastExpr", "CStyleCastExpr") and self.type_of(inner) == "void":
            if self.stripped(inner["inner"][0]).get("kind") == "DeclRefExpr":
                return
        self.add(node, 3, f"without {self.source(node)}", lambda on, x: f"({on} ? void() : void({x}))", "void()")

    def at_CompoundStmt(self, node):
        for child in node.get("inner", ()):
            self.statement(child)

    def at_CaseStmt(self, node):
        self.statement(node["inner"][-1])

    at_DefaultStmt = at_CaseStmt

    def at_IfStmt(self, node):
        children = node["inner"]
        if not node.get("isConstexpr") and not node.get("hasVar") and not node.get("hasInit"):
            self.condition(children[0])
        for child in children[1:]:
            self.statement(child)

    def at_WhileStmt(self, node):
        if not node.get("hasVar"):
            self.condition(node["inner"][0])
        self.statement(node["inner"][-1])

    def at_ForStmt(self, node):
        if node["inner"][2].get("kind"):
            self.condition(node["inner"][2])
        self.statement(node["inner"][-1])

    def at_ConditionalOperator(self, node):
        self.condition(node["inner"][0])

    def at_BinaryOperator(self, node):
        op, (left, right) = node["opcode"], node["inner"]
        l_text, r_text = self.source(left), self.source(right)
        if l_text is None or r_text is None:
            return
        if op in ("&&", "||"):
            for operand in (left, right):
                if self.stripped(operand).get("opcode") not in ("&&", "||"):
                    self.truth(operand, op == "&&")
            self.swap(node, f"({l_text}) {'||' if op == '&&' else '&&'} ({r_text})", 1)
        elif op in RELATIONS:
            for other in RELATIONS[op]:
                self.swap(node, f"({l_text}) {other} ({r_text})")
        elif op in ARITHMETIC:
            if "*" in self.type_of(right) or ("*" in self.type_of(left) and op not in "+-"):
                return
            self.swap(node, f"({l_text}) {ARITHMETIC[op]} ({r_text})")

    def at_CompoundAssignOperator(self, node):
        op, (left, right) = node["opcode"], node["inner"]
        if op in ASSIGNMENTS and self.source(left) and self.source(right):
            self.swap(node, f"{self.source(left)} {ASSIGNMENTS[op]} ({self.source(right)})")

    def at_CXXOperatorCallExpr(self, node):
        callee = self.stripped(node["inner"][0]).get("referencedDecl", {}).get("name", "")
        if callee in ("operator==", "operator!="):
            self.swap(node, f"!({self.source(node)})")

    def at_UnaryOperator(self, node):
        op, operand = node["opcode"], self.source(node["inner"][0])
        if operand is None:
            return
        if op in ("++", "--"):
            other = "--" if op == "++" else "++"
            self.swap(node, operand + other if node.get("isPostfix") else other + operand)
        elif op in ("~", "-"):
            self.swap(node, operand)
        elif op == "!":
            self.swap(node, f"static_cast<bool>({operand})")

    def at_IntegerLiteral(self, node):
        mine = self.source(node)
        if mine and re.match(r"\d", mine):
            self.swap(node, f"{mine} + 1")
            if mine.rstrip("uU") == "1":
                self.swap(node, mine.replace("1", "0"))

    def at_CXXBoolLiteralExpr(self, node):
        self.swap(node, "false" if node["value"] else "true")

    def at_DeclRefExpr(self, node):
        other = self.enums.get(node.get("referencedDecl", {}).get("id"))
        mine = self.source(node)
        if other and mine and "::" in mine:
            self.swap(node, mine[:mine.rindex("::") + 2] + other)

    def at_BreakStmt(self, node):
        self.add(node, 3, f"without {self.source(node)}", lambda on, x: f"{{ if (!{on}) {x} }}", ";", is_statement=True)

    at_ContinueStmt = at_BreakStmt

    def at_ReturnStmt(self, node):
        if not node.get("inner"):
            self.add(node, 3, "without return", lambda on, x: f"{{ if (!{on}) {x} }}", ";", is_statement=True)
            return
        value = node["inner"][0]
        inner, of_type, mine = self.stripped(value), self.type_of(value), self.source(value)
        if mine is None:
            return
        is_simple = inner.get("kind") not in ("BinaryOperator", "UnaryOperator", "IntegerLiteral", "CXXBoolLiteralExpr",
                                              "ConditionalOperator", "CXXOperatorCallExpr")
        if of_type == "void" and inner.get("kind") != "InitListExpr":
            self.add(node, 3, "without " + mine, lambda on, x: f"{{ if ({on}) return; {x} }}", "return;",
                     is_statement=True)
        elif of_type == "bool" and is_simple:
            self.swap(value, f"!({mine})", 2)
        elif INTEGERS.match(of_type) and is_simple:
            self.swap(value, f"({mine}) + 1", 2)
        elif of_type == "status" and is_simple and inner.get("kind") != "DeclRefExpr":
            self.swap(value, "::projections::status::failed", 2)
        elif of_type in EMPTY_RETURNS and inner.get("kind") not in ("CXXNullPtrLiteralExpr",) and mine != "{}":
            self.add(node, 3, f"return {mine} -> return {{}}", lambda on, x: f"{{ if ({on}) return {{}}; {x} }}",
                     "return {};", is_statement=True)


def find_all(header):
    return Finder(header, syntax_tree(header)).mutants()


# ---- those that somebody listed

def listed(header, path):
    """The mutants of a file: per guarantee what stands in the header, and what to put there. A statement if it ends
    with `;`, else an expression. (mutants, complaints)"""
    text = header.read_bytes().decode("latin-1")
    mutants, complaints = [], []
    for block in re.split(r"\n\s*\n", re.sub(r"^#.*\n?", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)):
        lines = block.strip("\n").split("\n")
        if lines == [""]:
            continue
        parts = re.match(r"(G\d+)(?: in (\w+))?: *(.*)", lines[0])
        fields = dict(re.findall(r"^    (find|put): (.*)$", block, re.MULTILINE))
        if not parts or set(fields) != {"find", "put"}:
            complaints.append(f"{path.name}: not understood:\n{block}")
            continue
        find, put = fields["find"], fields["put"]
        pattern = re.compile(r"\s+".join(re.escape(word) for word in find.split()))
        places = [m.span() for m in pattern.finditer(text)]
        if len(places) != 1:
            complaints.append(f"{path.name}: {parts[1]}: found {len(places)} times in the header: {find}")
            continue
        if find.endswith(";"):
            write = (lambda put: lambda on, x: f"{{ if ({on}) {{ {put} }} else {{ {x} }} }}")(put)
        else:
            write = (lambda put: lambda on, x: f"({on} ? ({put}) : ({x}))")(put)
        m = Mutant(*places[0], 9, "listed", find, f"{find} -> {put}", write, bool(parts[2]))
        m.guarantee = parts[1]
        m.why = parts[3]
        mutants.append(m)
    return mutants, complaints


# ---- the header with all of them

def written(header, mutants):
    """The text of a header in which each of these mutants can be switched on; numbers them from 1."""
    text = header.read_bytes().decode("latin-1")
    chosen = sorted(mutants, key=lambda m: (m.begin, -m.end, -m.level))
    for number, m in enumerate(chosen, 1):
        m.number = number

    def render(begin, end, inside):
        """The text from begin to end; `inside` are the mutants in there, outer ones first."""
        out, at, i = [], begin, 0
        while i < len(inside):
            m = inside[i]
            nested = i + 1
            while nested < len(inside) and inside[nested].begin < m.end:
                nested += 1
            children = inside[i + 1:nested]
            crossing = [c for c in children if c.end > m.end]
            if crossing:
                raise SystemExit(f"mutation: these two overlap:\n{m}\n{crossing[0]}")
            name = f"{'PJMC_' if m.is_constant else 'PJM_'}({m.number})"
            out += [text[at:m.begin], m.write(name, render(m.begin, m.end, children))]
            at, i = m.end, nested
        out.append(text[at:end])
        return "".join(out)

    return (PRELUDE + render(0, len(text), chosen)).encode("latin-1")


def compiled(header, mutant):
    """The text of a header with this mutant alone."""
    text = header.read_bytes().decode("latin-1")
    return (PRELUDE + text[:mutant.begin] + mutant.plain + text[mutant.end:]).encode("latin-1")
