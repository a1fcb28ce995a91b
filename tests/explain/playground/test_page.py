"""The playground's page as text, and the command that writes it."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ravine.cli import app
from ravine.explain.playground import DEFAULT, page, rules_of
from ravine.registry import available, lookup


def test_the_page_needs_nothing_else(html: str) -> None:
    assert re.findall(r'(?:src|href)="(?!#)([^"]*)"', html) == []
    assert "@import" not in html and "url(" not in html
    assert html.count("<script") == 2 and html.startswith("<!doctype html>")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    assert unescape(policy).startswith("default-src 'none';")
    assert "unsafe-eval" not in policy and policy.count("sha256-") == 2


def test_a_page_has_the_rules_it_is_given_and_begins_with_them() -> None:
    made = page(["lookahead(cautious(adamw))", "lion"], setup=["lion;lr=0.01"])
    assert '"lookahead(cautious(adamw))":{' in made and '"optimizers":["lion;lr=0.01"]' in made
    assert '"muon":{' not in made


def test_the_page_of_all_rules_offers_every_rule_or_says_why_not() -> None:
    rules, refused, excluded = rules_of()
    names = [rule.spec for rule in rules]
    assert set(available()) == {name for name in names if "(" not in name} | set(excluded)
    assert all(len(reason) > 20 for reason in excluded.values())
    assert "cautious(adamw)" in names and "schedule_free(sgd)" in names
    assert all("momentum" in reason for reason in refused["schedule_free"].values())
    assert {one.split(";")[0] for one in DEFAULT} <= set(names)


def test_an_unknown_rule_is_a_wrong_call(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["playground", "adamww", "--out", str(tmp_path / "page.html")])
    assert result.exit_code == 2 and "did you mean 'adamw'" in result.output
    assert not (tmp_path / "page.html").exists()


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    result = CliRunner().invoke(app, ["playground", "sgd", "lookahead(sgd)", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "playground" in result.output and lookup("sgd").title in out.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_page_of_all_rules_is_small() -> None:
    assert len(page().encode()) < 550_000
