#!/usr/bin/env python3
"""Serves a sample site to crawl: The Tidewater Almanac, 240 pages about a coast that does not exist.

The pages are the same in every run. They are made the way pages are found in the wild: entities and raw UTF-8,
relative and absolute links, tags nobody closed, scripts and comments with things that look like links. No link is
dead, and every page is at most six links away from the first.
"""

import argparse
import html
import json
import random
import signal
import socketserver
import sys
from urllib.parse import quote, unquote

NAME = "The Tidewater Almanac"

# Eight sections of 26 articles. Names are unique over the whole site, and so are titles.
TOWNS = """Arnavik Brackwater Callow Dunmere Ebbstone Fallhaven Grønsund Harrowgate Inverley Jostedal Kelpmouth Lenmark
Marram Nethercote Orrisdale Pellworth Quayle Ravenser Saltby Thornwick Ulvøy Vantry Westerhaugh Yarrowby Zoutkamp
Sandsend""".split()
RIVERS = """Aller Brathe Cunnery Deeping Eskwater Fleam Gaddle Hindburn Isling Jarrow-Beck Kettle Lathkill Mease Nadder
Otterburn Piddle Quenby Rhee Skell Tarnbrook Ure Vyrnow Wharram Yare-Minor Zwin Ébrey""".split()
ISLANDS = """Annet Brecqhou Calva Danna Eynhallow Fårø-Minor Gasker Hascosay Inchkeil Jethou Kili Linga Mousa Noss
Oronsay Papay Quendale Rusk Samphrey Trondra Uyea Vementry Wiay Ynys-Las Zetland-Skerry Stroma""".split()
BIRDS = """Ash-throated-Pipit Bar-tailed-Curlew Common-Dovekie Dusky-Petrel Ember-Goose Fork-tailed-Tern Grey-Phalarope
Harbour-Martin Ivory-Skua Jack-Sandpiper Kelp-Gull Little-Merganser Marsh-Bunting Northern-Dunlin Ochre-Wheatear
Painted-Knot Quay-Starling Reed-Crake Storm-Fulmar Tide-Wagtail Umber-Harrier Velvet-Eider White-Turnstone
Yellow-Stint Zigzag-Whimbrel Salt-Lark""".split()
PLANTS = """Alpine-Thrift Beach-Sandwort Creeping-Samphire Dune-Pansy Early-Scurvygrass Felwort-of-the-Cliff
Glasswort Horned-Poppy Isle-Heather Jointed-Rush Kidney-Vetch Lyme-Grass Marsh-Mallow Narrow-Eelgrass Oyster-Plant
Prickly-Saltwort Queen's-Campion Rock-Samphire Sea-Holly Tufted-Saxifrage Upright-Dock Viper's-Bugloss Water-Lobelia
Yarrow-of-the-Shore Zigzag-Clover Sea-Kale""".split()
CRAFTS = """Anchor-Forging Basket-Weaving Cooperage Dory-Building Eel-Smoking Felt-Making Gansey-Knitting Herring-Curing
Ink-Brewing Jet-Carving Kelp-Burning Lime-Slaking Mast-Making Net-Braiding Oar-Turning Peat-Cutting Quill-Cutting
Rope-Walking Salt-Panning Thatching Upholstery-in-Reed Varnishing Whitesmithing Yawl-Rigging Zinc-Etching
Sail-Making""".split()
PEOPLE = """Agnes-Orrell Bartholomew-Quick Clémence-Dufay Dirk-Hoekstra Edith-Marram Finlay-Rusk Greta-Lindqvist
Hugh-Tarrant Ingrid-Sørby Josef-Kalina Katharine-Pell Lars-Nygaard Maud-Isling Niall-Brathe Oda-Vinter
Peregrine-Shaw Queenie-Aldous Rolf-Eide Sunniva-Hald Tobias-Fenn Ursula-Kreft Viktor-Anselm Wilhelmina-Voss
Yrsa-Holm Zachary-Mould Samuel-Thrale""".split()
NEWS = """Ferry-Returns-after-Winter-Refit Lighthouse-Lamp-Relit Old-Quay-Wall-Reopened Storm-Takes-Pier-Planks
Herring-Fair-Draws-Record-Crowd New-Bell-for-the-Seamen's-Chapel School-Boat-Launched Bridge-Toll-Abolished
Rope-Walk-Saved-by-Subscription Two-Seals-at-the-Market Choir-Wins-at-Lenmark Post-Office-Moves-Once-More
Salt-Price-Falls-Again Museum-Finds-Lost-Chart Ice-on-the-Estuary Harbour-Master-Retires Library-Open-on-Sundays
Peat-Road-under-Water Cafés-Stay-Open-Late Surveyors-Count-the-Terns Last-Steam-Drifter-Sold Railway-Halt-Gets-a-Clock
Dyke-Watch-Seeks-Volunteers Night-Boat-Timetable-Changed Regatta-Ends-in-Fog Council-Votes-on-the-Sluice""".split()

# Title, articles, what one of them is, and the rows of its table. "n" and "m" are numbers, made anew for each article.
SECTIONS = {
    "towns": ("Towns", TOWNS, "a town", {
        "Inhabitants": "about {n}00", "First mentioned": "{year}", "Market day": "{day}",
        "Height above the tide": "{m}&thinsp;m", "Railway": "by way of {a}"}),
    "rivers": ("Rivers", RIVERS, "a river", {
        "Length": "{n}.{m}&thinsp;km", "Source": "a spring above {a}", "Mouth": "below the bridge of {b}",
        "Bridges": "{m}, one of them wooden"}),
    "islands": ("Islands", ISLANDS, "an island", {
        "Area": "{n}&thinsp;ha at low water", "Highest point": "{n}&frac12;&thinsp;m", "Households": "{m}",
        "Ferry": "from {a}, {day} &amp; on request"}),
    "birds": ("Birds", BIRDS, "a bird of the shore", {
        "Wing": "{n}&ndash;{n}{m}&thinsp;mm", "Eggs": "{m}, speckled", "First count": "{year}",
        "Seen most at": "{a} &amp; {b}"}),
    "plants": ("Plants", PLANTS, "a plant of the salt margin", {
        "Height": "&le;&nbsp;{n}&thinsp;cm", "Petals": "{m}", "Soil": "sand, shell, pH &gt; {m}",
        "First pressed": "{year}, near {a}"}),
    "crafts": ("Crafts", CRAFTS, "a craft of the harbour towns", {
        "Masters": "{m}", "Apprenticeship": "{m} years", "Guild": "{a}, since {year}", "Wage": "{n} pence a day"}),
    "people": ("People", PEOPLE, "a figure of local history", {
        "Born": "{a}, {year}", "Schooling": "{m} winters", "Letters kept": "{n}", "Remembered in": "{b}"}),
    "news": ("News", NEWS, "a report from our correspondents", {
        "Reported": "{day}, from {a}", "Letters received": "{n}", "Corrections": "{m}"}),
}
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]

OPENINGS = [
    "{name} is {kind} on the western reach, between {a} and {b}.",
    "Few entries in this almanac are asked for as often as {name}, {kind} that every child here can describe.",
    "{name}, {kind}, is named in the harbour rolls of {year} and has not been out of them since.",
    "Travellers coming by the night boat from {a} usually hear of {name} first; it is {kind} with a long memory.",
]
BODY = [
    "The survey of {year} gives two different figures, and both have been defended in print.",
    "Until the sluice at {a} was built, the spring tides reached as far as the churchyard wall.",
    "A drawing in the museum at {b} shows it much as it is now, apart from the hats.",
    "Old people still say &ldquo;as plain as {name}&rdquo; of anything that needs no explanation.",
    "In the hard winter of {year} the estuary froze for eleven days &mdash; the post came by sledge from {a}.",
    "The price was fixed at 3&frac12; pence, which was thought a scandal & was paid all the same.",
    "Its connection with {b} is disputed: the parish register says one thing, the tombstone another.",
    "The café by the quay keeps a shelf of papers about it; ask for the blue folder.",
    "Measurements taken at 4&deg;C differ by less than 1&nbsp;%, so the older tables may be used.",
    "Nobody has improved on the account by Edith Marram, who walked the whole way with a dog & a barometer.",
    "The road from {a} was paid for by a tax on tea, and is called Teapot Lane to this day.",
    "Since {year} a committee has met every second Tuesday; its minutes are models of brevity.",
    "The Dutch charts call it by another name — «het oude zout» — which nobody has explained.",
    "When x &lt; y in the tide table, wait; when x &gt; y, go; when they are equal, have lunch.",
]
HEADINGS = ["History", "Situation", "Description", "In daily life", "What is disputed", "Sources"]
SINGLE_PAGES = {
    "about.html": ("About this almanac", "The almanac was begun by three schoolteachers and a pilot."),
    "glossary.html": ("A glossary of tide words",
                      "A <dfn>gat</dfn> is a passage; a <dfn>plate</dfn> is what it avoids."),
    "map.html": ("The map, sheet by sheet", "Sheet 4 has been out of print since the printer moved away."),
    "contact.html": ("How to write to us", "Letters are answered in the order in which they are understood."),
    "colophon.html": ("Colophon", "Set by hand in the evenings; mistakes are our own."),
    "a-z.html": ("The sections from A to Z", "Begin where you like."),
    "thanks.html": ("With thanks", "To the ferry crews, who carried the proofs dry."),
}


def slug(name):
    return name.lower().replace("'", "")


def spoken(name):
    return name.replace("-", " ")


def href(path):
    return quote(path)


class Site:
    """All pages, made once: a path leads to the bytes of its HTML."""

    def __init__(self):
        self.pages = {}
        self.redirects = {}
        self.home()
        for number, (path, (title, text)) in enumerate(SINGLE_PAGES.items()):
            self.single(path, title, text, number)
        for key in SECTIONS:
            self.section(key)

    def add(self, path, title, body, number):
        """One page. The number decides in which of the usual ways its HTML is careless."""
        title = html.escape(title, quote=False)
        titles = [f"<title>{title} &ndash; {NAME}</title>",
                  f"<title>\n      {title}\n      &ndash; {NAME}\n    </title>",
                  f"<TITLE>  {title}  &#8211;  {NAME}  </TITLE>",
                  f"<title>{title} – {NAME}\n</title>"]
        top = "<!DOCTYPE html>" if number % 5 else "<!-- saved from the old server: <a href='/lost.html'>lost</a> -->"
        script = """<script>
        var menu = "<a href='/not-a-page.html'>" + 1 + "</a>"; if (1 < 2 && 3 > 2) { menu += ""; }
    </script>"""
        end = ["</body>\n</html>\n", "</body>", "", "</div></body></html>\n<!-- the end"][number % 4]
        self.pages[path] = f"""{top}
<html lang="en">
<head>
    <meta charset="utf-8">
    {titles[number % 4]}
    <style>body > h1 {{ color: #234; }} /* <a href="/style-is-no-link"> */</style>
    {script if number % 3 == 0 else ""}
</head>
<body class=page-{number % 7}>
<p class="nav"><a href="/">Home</a> | <a href='/about.html' title="who > what">About</a>
| <A HREF=/a-z.html>A&ndash;Z</A>
{body}
{end}""".encode()

    def home(self):
        sections = "\n".join(
            f'<li><a href="/{key}/">{title}</a> ({len(names)} articles)'
            for key, (title, names, _, _) in SECTIONS.items()
        )
        self.add("/", "Front page", f"""<h1>{NAME}</h1>
<p>An encyclopedia of the western reach, its <b>people, <i>birds</b> and</i> weather. Free to read, slow to change.
<h2>Sections</h2>
<ul>
{sections}
</ul>
<p>New here? Read <a href="about.html#beginnings">how it began</a>, or <a href="./map.html">unfold the map</a>.""", 1)

    def single(self, path, title, text, number):
        following = list(SINGLE_PAGES)[(number + 1) % len(SINGLE_PAGES)]
        # A section's path without the slash is answered by a redirect, as everywhere.
        section = list(SECTIONS)[number % len(SECTIONS)]
        self.redirects[f"/{section}"] = f"/{section}/"
        listed = " ".join(f'<a href="/{key}/">{spoken(title_)}</a>' for key, (title_, *_) in SECTIONS.items())
        self.add(f"/{path}", title, f"""<h1 id=beginnings>{title}</h1>
<p>{text} See also <a href="{following}">{SINGLE_PAGES[following][0]}</a> and <a href="/{section}">{section}</a>.
<p>{listed if path == "a-z.html" else "The sections are listed <a href='a-z.html'>from A to Z</a>."}""", number + 2)

    def section(self, key):
        """Three index pages of eight articles; two more are found only by those who read on."""
        title, names, _, _ = SECTIONS[key]
        indexes = [f"/{key}/", f"/{key}/page-2.html", f"/{key}/page-3.html"]
        for page, path in enumerate(indexes):
            items = "\n".join(
                f'<li><a href="{href(slug(name))}.html">{html.escape(spoken(name))}</a>'
                for name in names[page * 8 : page * 8 + 8]
            )
            more = f'<p><a rel=next href="page-{page + 2}.html">More {title.lower()} &rarr;</a>' if page < 2 else ""
            self.add(path, f"{title}, part {page + 1} of 3", f"""<h1>{title}</h1>
<ol start={page * 8 + 1}>
{items}
</ol>
{more}
<p><a href="../">Up</a> <a href="mailto:editors@example.org">Write to the editors</a>""", page + len(key))
        for index, name in enumerate(names):
            self.article(key, index)

    def article(self, key, index):
        _, names, kind, facts = SECTIONS[key]
        name = names[index]
        number = list(SECTIONS).index(key) * 31 + index
        pick = random.Random(number)

        def fill(sentence):
            a, b = pick.sample(TOWNS, 2)
            return sentence.format(name=html.escape(spoken(name)), kind=kind, a=a, b=b, day=pick.choice(DAYS),
                                   year=pick.randint(1580, 1930), n=pick.randint(10, 99), m=pick.randint(2, 9))

        rows = "\n".join(f"<tr><th>{fact}<td>{fill(value)}" for fact, value in facts.items())
        paragraphs = []
        sentences = pick.sample(BODY, 10)
        for part, heading in enumerate(pick.sample(HEADINGS, 4)):
            text = " ".join(fill(sentence) for sentence in sentences[part * 5 // 2 : (part + 1) * 5 // 2])
            anchor = slug(heading.replace(" ", "-"))
            paragraphs.append(f'<h2 id="{anchor}">{heading}</h2>\n<p>{text}{"</p>" if part % 2 else ""}')
        links = []
        for other in pick.sample(list(SECTIONS), 3):
            target = pick.choice(SECTIONS[other][1][:24])
            where = [f"../{other}/{href(slug(target))}.html", f"/{other}/{href(slug(target))}.html#history",
                     f"../{key}/../{other}/./{slug(target)}.html"][pick.randrange(3)]
            links.append(f'<li><a class=see href="{where}">{html.escape(spoken(target))}</a>')
        if index >= 23 and index + 1 < len(names):
            links.append(f"<li><a href='{href(slug(names[index + 1]))}.html'>A supplement</a>")
        self.add(f"/{key}/{slug(name)}.html", spoken(name), f"""<h1>{html.escape(spoken(name))}</h1>
<table border=1>{rows}</table>
<p><em>{fill(OPENINGS[number % len(OPENINGS)])}</em>
{chr(10).join(paragraphs)}
<blockquote cite=https://example.org/quotes?a=1&b=2>{fill(pick.choice(BODY))}</blockquote>
<img src="/no-image.png" alt="A view > of {spoken(name).replace('"', '')}">
<h3>See also</h3>
<ul>
{chr(10).join(links)}
<li><a href="./">All of this section</a> <!-- <a href="/draft.html">draft</a> -->
<li><a href="https://example.org/">elsewhere</a>
</ul>""", number)


def response(status, body, headers=""):
    """The answers to GET and HEAD, whole."""
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    ).encode()
    return {b"GET": head + body, b"HEAD": head}


class Handler(socketserver.StreamRequestHandler):
    """Answers from a table; the standard library's own HTTP handler takes several times as long for each request."""

    disable_nagle_algorithm = True
    timeout = 60

    def handle(self):
        try:
            while self.answer():
                pass
        except (OSError, ValueError):
            pass  # the client went away, or talks something else

    def answer(self):
        method, target, version = self.rfile.readline(65536).split()
        keep = version == b"HTTP/1.1"
        while (line := self.rfile.readline(65536)) not in (b"\r\n", b"\n", b""):
            field = line.lower()
            if field.startswith(b"connection:"):
                keep = b"close" not in field and (keep or b"keep-alive" in field)
            if field.startswith((b"content-length:", b"transfer-encoding:")):
                keep = False  # a body, which is not read
        path = unquote(target.split(b"?")[0].decode("ascii"))
        answers = self.server.answers.get(path, self.server.missing)
        self.wfile.write(answers.get(method) or self.server.refused[b"GET"])
        return keep and method in answers


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address, site):
        self.answers = {path: response("200 OK", body) for path, body in site.pages.items()}
        for path, target in site.redirects.items():
            self.answers[path] = response("301 Moved Permanently", b"", f"Location: {target}\r\n")
        self.missing = response("404 Not Found", b"<title>Not found</title><p>There is no such page.")
        self.refused = response("405 Method Not Allowed", b"", "Connection: close\r\nAllow: GET, HEAD\r\n")
        super().__init__(address, Handler)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--host", default="127.0.0.1")
    arguments.add_argument("--port", type=int, default=0, help="0 takes a free one")
    options = arguments.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    site = Site()
    with Server((options.host, options.port), site) as server:
        host, port = server.server_address
        print(json.dumps({"url": f"http://{host}:{port}/", "pages": len(site.pages)}), flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
