"""Names and help in every language."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hosts import ROOT
from locale_files import LANGUAGES, english, texts, translations, words
from server import Server


@pytest.fixture(scope="module")
def schemas(server: Server) -> dict[str, Any]:
    return english(server.get("/object_info"))


def shape(value: Any) -> Any:
    return {key: shape(one) for key, one in value.items()} if isinstance(value, dict) else None


def test_english_is_what_the_schemas_say(schemas: dict[str, Any]) -> None:
    """If not: python tests/host/locale_files.py"""
    assert json.loads((ROOT / "locales/en/nodeDefs.json").read_text(encoding="utf-8")) == schemas


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_node_input_and_output_has_a_name_in_every_language(schemas: dict[str, Any], language: str) -> None:
    written = json.loads((ROOT / f"locales/{language}/nodeDefs.json").read_text(encoding="utf-8"))
    assert shape(written) == shape(schemas)
    table = translations()[language]
    assert [text for text in texts(schemas) if not table.get(text)] == []
    assert not set(table) - set(texts(schemas)) - set(words()), "translations of texts that are gone"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_words_of_the_editors_widgets_are_translated(language: str) -> None:
    written = json.loads((ROOT / f"locales/{language}/main.json").read_text(encoding="utf-8"))["facecrafter"]
    assert "Show and accept licences" in written and written == {text: translations()[language].get(text) for text in words()}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_node_has_help_in_every_language(server: Server, schemas: dict[str, Any], language: str) -> None:
    for name in schemas:
        with server.open(f"/extensions/facecrafter/docs/{name}/{language}.md") as answer:
            text = answer.read().decode()
        assert text.startswith(f"# {schemas[name]['display_name']}") and any(ord(c) > 0x3000 for c in text), name


def test_every_help_page_has_its_picture(server: Server, schemas: dict[str, Any]) -> None:
    for name in schemas:
        for page in (f"{name}.md", *(f"{name}/{language}.md" for language in LANGUAGES)):
            with server.open(f"/extensions/facecrafter/docs/{page}") as answer:
                assert f"(images/{name}.webp)" in answer.read().decode(), page
        with server.open(f"/extensions/facecrafter/docs/images/{name}.webp") as answer:
            picture = answer.read()
        assert picture[8:12] == b"WEBP" and 1_000 < len(picture) < 40_000, name


def test_comfyui_serves_them(server: Server) -> None:
    served = server.get("/i18n")
    assert all("FaceCrafterSampler" in served[language]["nodeDefs"] for language in ("en", *LANGUAGES))
