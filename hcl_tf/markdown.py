"""Tables in Markdown, for pages and for TensorBoard."""


def markdown_table(rows: list[dict[str, str]]) -> str:
    """Rows with the same keys as a Markdown table; text is escaped."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([row[name] for name in names] for row in rows)]
    return "\n".join("| " + " | ".join(_escape(cell) for cell in line) + " |" for line in lines)


def _escape(text: str) -> str:
    for sign in ("\\", "|", "*", "_", "`"):
        text = text.replace(sign, "\\" + sign)
    return text.replace("<", "&lt;").replace("\n", " / ")
