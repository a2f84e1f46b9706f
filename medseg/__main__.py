"""`python -m medseg` is `medseg`."""

from typing import NoReturn

from medseg.interrupt import listen


def run() -> NoReturn:
    """Run the command line of this process, which signals end in order from the first import on."""
    listen()
    from medseg.cli import run as run_command

    run_command()


if __name__ == "__main__":
    run()
