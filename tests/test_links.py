"""Every link of the README, the changelog and the guide leads somewhere.

Relative links lead to files that are there, and what follows a # to a heading, by the name that GitHub
gives it, which is the one that the built guide gives it (`myst_heading_anchors`). Nothing is fetched: of an
address on the net it is asked that it is https, and of a host that the project means to cite.
"""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    ROOT / "benchmarks" / "README.md",
    *sorted(GUIDE.rglob("*.md")),
]
HOSTS = {
    "distributed.dask.org",
    "docs.kidger.site",
    "github.com",
    "download.pytorch.org",
    "jobqueue.dask.org",
    "keepachangelog.com",
    "semver.org",
}
ANCHORED = 4
"""Down to which level of headings the built guide makes anchors (`myst_heading_anchors` in docs/conf.py)."""
SHOWN_BY_NAME = re.compile(r"(?:macrostat\w*|bridge|benchmarks|tests)/")
"""Links of the README that the guide, whose pages these are not, shows as text (docs/conf.py)."""

FENCE = re.compile(r"^ *(```+|:::+).*?^ *\1 *$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(\s*<?([^)<>\s]*)")
ADDRESS = re.compile(r"\b\w+://[^\s)>\"'`\]]+")
NOT_OF_THE_NET = {"tcp"}  # the address of a Dask scheduler


def anchors(text: str) -> set[str]:
    """What a # may name in a page: its headings as GitHub writes them, a repeated one with its number."""
    found: dict[str, int] = {}
    result = set()
    for level, title in re.findall(r"^(#+) +(.+?)[ #]*$", FENCE.sub("", text), re.MULTILINE):
        title = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title)
        slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        count = found[slug] = found.get(slug, -1) + 1
        if len(level) <= ANCHORED:
            result.add(f"{slug}-{count}" if count else slug)
    return result


def wrong(page: Path, text: str) -> list[str]:
    """What is the matter with the links of a page."""
    result = []
    for address in ADDRESS.findall(text):
        parts = urlsplit(address)
        if parts.scheme in NOT_OF_THE_NET:
            continue
        if parts.scheme != "https" or parts.hostname not in HOSTS:
            result.append(f"{address}: no https address of a host in HOSTS")
    prose = re.sub(r"`+[^`\n]*`+", "", FENCE.sub("", text))
    for link in LINK.findall(prose):
        if "://" not in link and (problem := astray(page, text, link)):
            result.append(f"{link}: {problem}")
    return result


def astray(page: Path, text: str, link: str) -> str | None:
    """Why a relative link leads nowhere."""
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return "no such file"
    if not target.is_relative_to(ROOT):
        return "outside of the repository"
    inside = target.is_relative_to(GUIDE)
    if page == ROOT / "README.md" and path:
        if inside and not path.startswith("docs/"):
            return "not written docs/..., by which the guide finds its own pages"
        if not inside and not SHOWN_BY_NAME.match(path):
            return "no page of the guide, which has the README as a page"
    elif page.is_relative_to(GUIDE) and not (inside or path == "../README.md"):
        return "no page of the guide"
    if anchor and anchor not in anchors(text if target == page else target.read_text()):
        return "no such heading"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert wrong(page, page.read_text()) == []


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ("installation.md", None),
        ("installation.md#gpu", None),
        ("#here", None),
        ("#twice-1", None),
        ("../README.md#speed", None),
        ("https://semver.org/x", None),
        ("instalation.md", "no such file"),
        ("installation.md#gpus", "no such heading"),
        ("#there", "no such heading"),
        ("#twice-2", "no such heading"),
        ("#not-a-heading", "no such heading"),
        ("../README.md#sped", "no such heading"),
        ("../pyproject.toml", "no page of the guide"),
        ("../../elsewhere.md", "no such file"),
        ("http://semver.org/x", "no https address of a host in HOSTS"),
        ("https://semver.example/x", "no https address of a host in HOSTS"),
    ],
)
def test_a_link_astray_is_found(link, problem):
    text = f"# Here\n\n[a `link`]({link})\n\n## Twice\n\n## Twice\n\n```bash\n# Not a heading\n[x](y)\n```\n"
    found = wrong(GUIDE / "sweeps.md", text)
    assert found == ([] if problem is None else [f"{link}: {problem}"])


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ("docs/sweeps.md", None),
        ("benchmarks/README.md", None),
        ("./docs/sweeps.md", "not written docs/..., by which the guide finds its own pages"),
        ("pyproject.toml", "no page of the guide, which has the README as a page"),
    ],
)
def test_the_readme_is_a_page_of_the_guide_too(link, problem):
    found = wrong(ROOT / "README.md", f"[a]({link})")
    assert found == ([] if problem is None else [f"{link}: {problem}"])


def test_anchors_are_those_of_the_built_guide():
    """MyST's own function, where it is installed, gives every heading the name that is used here."""
    myst = pytest.importorskip("myst_parser.slugs")
    for page in PAGES:
        for title in re.findall(r"^#+ +(.+?)[ #]*$", FENCE.sub("", page.read_text()), re.MULTILINE):
            plain = re.sub(r"`", "", title)
            assert myst.github_slugify(plain) in anchors(f"# {title}"), title


def test_every_picture_is_shown():
    shown = {
        (page.parent / link).resolve()
        for page in PAGES
        for link in LINK.findall(page.read_text())
        if link.endswith(".png")
    }
    assert {*GUIDE.rglob("*.png")} - shown == set()
