"""A page of HTML taken apart: whether it is well formed, its text, its links and where they lead."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """Tags in order, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.open, self.text, self.links, self.anchors = [], [], "", [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.anchors += [value for name, value in attributes if name == "id"]
        self.links += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
