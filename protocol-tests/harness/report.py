"""What each client could do, as a table and two numbers."""

import shutil

from . import clients


def conclude(results, folder, keep) -> int:
    """Prints pairs of a name and whether it went well; leaves the folder only if somebody may want to look. The exit code."""
    failed = sum(not good for _, good in results)
    for name, good in results:
        print(f"{'ok' if good else 'FAIL'} {name}")
    if failed or keep:
        print(f"Folders are in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


class Report:
    """Collects one result a client and step. A step that was never reported, and a client that is missing, count as failed."""

    def __init__(self, chosen, with_sql):
        self.with_sql = with_sql
        self.chosen = chosen
        self.results = {name: {step: "was not reached" for step in clients.steps(name, with_sql)} for name in chosen}
        self.others = {}

    def _of(self, name):
        return self.results[name] if name in self.results else self.others[name]

    def ok(self, name, step):
        """A step that worked."""
        self._of(name)[step] = None

    def fail(self, name, step, reason):
        """A step that did not."""
        self._of(name)[step] = reason

    def expect(self, name, steps):
        """Steps of a program that is not one of the clients."""
        self.others[name] = {step: "was not reached" for step in steps}

    def missing(self, client, reason):
        """A client that could not be made ready: all its steps have failed."""
        self.results[client] = {step: f"the client is missing: {reason}" for step in self.results[client]}

    def add(self, name, checks):
        """Checks beside the clients' list: pairs of a name and a reason (None when it went well)."""
        self.others[name] = dict(checks)

    def _all(self):
        for name, steps in {**self.results, **self.others}.items():
            for step, reason in steps.items():
                yield name, step, reason

    @property
    def passed(self) -> int:
        """How many steps worked."""
        return sum(reason is None for _, _, reason in self._all())

    @property
    def failed(self) -> int:
        """How many did not."""
        return sum(reason is not None for _, _, reason in self._all())

    def matrix(self) -> str:
        """The table, and below it the reasons of what failed."""
        rows = [["", *self.chosen]]
        for step in clients.every_step(self.with_sql):
            marks = []
            for name in self.chosen:
                steps = self.results[name]
                marks.append("-" if step not in steps else "ok" if steps[step] is None else "FAIL")
            rows.append([step, *marks])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["", *["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows], ""]
        for name, checks in self.others.items():
            lines += [f"{name} {step}: {'ok' if reason is None else 'FAIL'}" for step, reason in checks.items()]
        lines.append("")
        lines += [f"FAIL {name} {step}: {reason}" for name, step, reason in self._all() if reason is not None]
        return "\n".join(lines)
