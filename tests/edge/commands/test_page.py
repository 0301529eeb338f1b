import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgecell.cli import cli


def certificate(folder: Path, name: str) -> list[Path]:
    """A certificate and its key, made by openssl."""
    paths = [folder / f"{name}.pem", folder / f"{name}-key.pem"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x",
         "-out", paths[0], "-keyout", paths[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    return paths


def refusal(folder: Path, *words: object) -> str:
    """The one line that the command says before it serves anything."""
    args = ["page", str(folder), "--port", "18765", *map(str, words)]
    result = CliRunner().invoke(cli, args)
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    return result.output


def test_bad_certificates_are_told_before_the_address(tmp_path: Path) -> None:
    good, _ = certificate(tmp_path, "good")
    _, other = certificate(tmp_path, "other")
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no PEM")
    for pair, said in (
        ((bad, bad), f"{bad} is not a certificate"),
        ((good, bad), f"{bad} is not the private key"),
        ((good, other), f"{other} is not the private key"),
    ):
        assert said in refusal(tmp_path, "--certificate", pair[0], "--key", pair[1])


@pytest.mark.parametrize("name", ["text", "file/accounts"])
def test_bad_accounts_are_told_before_the_address(tmp_path: Path, name: str) -> None:
    (tmp_path / "text").write_text("no database " * 100)
    (tmp_path / "file").write_text("")
    said = refusal(tmp_path, "--accounts", tmp_path / name)
    assert "--accounts" in said


@pytest.mark.parametrize(
    "origin",
    [
        "slides.example",
        "http://slides.example",
        "https://",
        "https://slides.example/page",
        "https://slides.example?a=b",
        "https://ann:secret@slides.example",
        "https://slides.example:0",
        "https://slides.example:port",
        "https://[::1",
    ],
)
def test_an_origin_that_no_browser_has(tmp_path: Path, origin: str) -> None:
    assert "--origin is https://HOST" in refusal(tmp_path, "--origin", origin)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    assert "is not a folder" in refusal(tmp_path / "nothing")
