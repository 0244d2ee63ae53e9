"""Every chapter teaches in the same form: a question first, code in sight only where it carries an idea, exercises at the end."""

import re

import pytest

from tsl import versions

HIDDEN = {"hide-input", "hide-cell", "remove-cell", "remove-input"}
CHAPTERS = pytest.mark.parametrize("source", versions.chapters(), ids=lambda source: source.stem)


def prose(source):
    return "\n\n".join(
        cell.source for cell in versions.read_source(source).cells if cell.cell_type == "markdown"
    )


@CHAPTERS
def test_a_chapter_opens_with_its_question_and_an_answer_in_two_sentences(source):
    first = versions.read_source(source).cells[0].source
    found = re.match(
        r"# .+\n+```{opening}\n(?::needs: ([^\n]+)\n)?\n*(.+?\?)\n\n(.+?)\n```", first, re.DOTALL
    )
    assert found, "the title is followed by an {opening}: a question, an empty line, and its answer"
    needs, _, answer = found.groups()
    assert len(re.findall(r"[.!?](?=\s|$)", answer)) == 2
    before = [each.stem for each in versions.chapters()]
    for name in (needs or "").split(", ") if needs else []:
        assert name in before
        assert name != source.stem


@CHAPTERS
def test_a_chapter_ends_with_three_takeaways_and_exercises_whose_answers_are_folded(source):
    *_, takeaways, exercises = re.split(r"^## ", prose(source), flags=re.MULTILINE)
    assert takeaways.startswith("Takeaways")
    assert len(re.findall(r"^[-*] ", takeaways, re.MULTILINE)) == 3
    assert exercises.startswith("Exercises")
    asked = re.findall(r"^\*\*(\d+)\.", exercises, re.MULTILINE)
    assert asked == [str(number) for number in range(1, len(asked) + 1)]
    cells = versions.read_source(source).cells
    answers = len(re.findall(r"{dropdown} Answer", exercises)) + sum(
        cell.metadata.get("mystnb", {}).get("code_prompt_show") == "Answer" for cell in cells
    )
    assert len(asked) >= 3
    assert answers >= len(asked)


@CHAPTERS
def test_a_cell_in_sight_has_at_most_ten_lines(source):
    for cell in versions.read_source(source).cells:
        if cell.cell_type == "code" and not HIDDEN & set(cell.metadata.get("tags", [])):
            lines = [line for line in cell.source.splitlines() if line.strip()]
            assert len(lines) <= 10, cell.source
