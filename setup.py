"""Puts the embedded models into the wheel: they lie in weights/, outside the package. All else is in pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithWeights(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return  # the checkout's own weights/ is used
        target = Path(self.build_lib, "vidrestore", "weights")
        self.mkpath(str(target))
        for file in sorted(Path("weights").glob("*lite*")):
            self.copy_file(str(file), str(target / file.name))


setup(cmdclass={"build_py": BuildWithWeights})
