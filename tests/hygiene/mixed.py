#!/usr/bin/env python3
"""Translation units of one program with other switches do not link where they share an engine.

With -Os a visitor delivers in another way than with -O2: linked together, events would go nowhere.
"""

from toolbox import HYGIENE, ROOT, Tally, compilers, run, scratch

SWITCHES = {"-Os": ["-Os"], "-O2": ["-O2"], "no exceptions": ["-O2", "-fno-exceptions"]}


def main():
    tally = Tally()
    with scratch() as folder:
        for family, path in compilers().items():
            objects = {}
            for name, switches in SWITCHES.items():
                for source in ("use_all", "bodies"):
                    out = f"{folder}/{family}-{source}-{len(objects)}.o"
                    code, output = run([path, "-std=c++17", *switches, "-DPROJECTIONS_SEPARATE", "-I", ROOT, "-c",
                                        HYGIENE / f"{source}.cpp", "-o", out])
                    tally.check(code == 0, f"{family} {name}: {source}.cpp compiles", output)
                    objects[name, source] = out
            for user in SWITCHES:
                for bodies in SWITCHES:
                    program = f"{folder}/{family}-program"
                    code, output = run([path, objects[user, "use_all"], objects[bodies, "bodies"], "-o", program])
                    if user == bodies:
                        tally.check(code == 0 and run([program])[0] == 0, f"{family} {user}: links and runs", output)
                    else:
                        tally.check(code != 0 and "undefined" in output,
                                    f"{family}: a program of {user} with bodies of {bodies} does not link", output)
    tally.exit()


if __name__ == "__main__":
    main()
