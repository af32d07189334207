"""What is compiled for the doctest suites, for the scripts that build them in their own ways."""

import pathlib

TESTS = pathlib.Path(__file__).resolve().parent


def sources(suites, folder):
    """[(a name, the file)] of these suites, first those that take longest. Eight files of guarantees are one, written
    into `folder`, as in meson.build: the header is read, and its functions are compiled, once for all of them."""
    order = {"routing": 0, "guarantees": 1}
    found = []
    for suite in suites:
        files = sorted((TESTS / suite).glob("*.cpp"))
        if suite != "guarantees":
            found += [(f"{suite}_{file.stem}", file) for file in files]
            continue
        for i in range(0, len(files), 8):
            group = pathlib.Path(folder) / f"{suite}_{i}.cpp"
            group.write_text("".join(f'#include "{file}"\n' for file in files[i:i + 8]), encoding="utf-8")
            found.append((group.stem, group))
    return sorted(found, key=lambda s: (order.get(s[0].split("_")[0], 2), -s[1].stat().st_size))
