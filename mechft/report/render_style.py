"""How a report looks: its style sheet, in light and in dark colours, on paper, and on a narrow screen."""

from __future__ import annotations

LIGHT = {
    "paper": "#ffffff",
    "ink": "#1b1b1b",
    "soft": "#595959",
    "line": "#d8d8d8",
    "raised": "#f3f3f3",
    "link": "#00558a",
    "yes": "#00664b",
    "no": "#a63600",
    "warning": "#fff1d6",
    "edge": "#b87700",
}
"""Colours by what they are for. ``paper``, ``raised`` and ``warning`` are behind text, the others on it."""

DARK = {
    "paper": "#15171a",
    "ink": "#e8e8e8",
    "soft": "#b0b0b0",
    "line": "#3c4046",
    "raised": "#23262b",
    "link": "#7cc0f2",
    "yes": "#5fd3ac",
    "no": "#ff9a66",
    "warning": "#3a2e12",
    "edge": "#e69f00",
}
"""The same in the dark; figures take ``paper`` and ``ink`` from here too."""

_RULES = """
* { box-sizing: border-box; }
html { color-scheme: light; scroll-padding-top: 1rem; -webkit-text-size-adjust: 100%; }
html[data-theme=dark] { color-scheme: dark; }
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; margin: 0;
  color: var(--ink); background: var(--paper); overflow-wrap: break-word; }
footer, .columns { max-width: 84rem; margin: 0 auto; padding: 0 1.2rem; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 .8rem; text-wrap: balance; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 0 0 .6rem; }
p, .text { max-width: 46rem; margin: .8rem 0; }
.text:has(> .table, > details) { max-width: none; }
.text { overflow-x: auto; } .text > ul { margin: .3rem 0; padding-left: 1.4rem; }
a { color: var(--link); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; border-radius: 2px; }
.skip { position: absolute; left: -100vw; padding: .6rem 1rem; background: var(--raised); z-index: 9; }
.skip:focus { left: .5rem; top: .5rem; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap; }
.warning { display: block; background: var(--warning); border-left: 4px solid var(--edge);
  padding: .6rem 1rem; }
.yes { color: var(--yes); font-weight: 600; } .no { color: var(--no); font-weight: 600; }
button { font: inherit; font-size: .85rem; line-height: 1.4; color: var(--ink); background: var(--raised);
  border: 1px solid var(--soft); border-radius: 4px; padding: .15rem .6rem; cursor: pointer; }
button:hover { border-color: var(--link); color: var(--link); }
button[aria-pressed=true] { color: var(--paper); background: var(--ink); }
html:not([data-theme]) button { display: none; } /* without its script a button does nothing */
#theme { float: right; margin: .2rem 0 .5rem 1rem; }

.columns { display: grid; grid-template: auto 1fr / 15rem minmax(0, 1fr); gap: 0 2.5rem; }
header, main { grid-column: 2; min-width: 0; } header { padding: 1.6rem 0 1rem; }
nav { grid-column: 1; grid-row: 1 / span 2; position: sticky; top: 1rem; align-self: start;
  max-height: calc(100vh - 2rem); margin-top: 1.6rem; overflow-y: auto; font-size: .88rem;
  line-height: 1.4; }
nav ol { list-style: none; margin: 0; padding: 3px; }
nav a { display: block; padding: .3rem .6rem; border-left: 3px solid var(--line); color: var(--soft);
  text-decoration: none; }
nav a:hover { color: var(--link); }
nav a[aria-current] { color: var(--ink); border-left-color: var(--link); font-weight: 600; }
section { border-top: 1px solid var(--line); padding: 1.2rem 0 2rem; }
footer { border-top: 1px solid var(--line); color: var(--soft); font-size: .88rem; padding-bottom: 2rem; }

figure { margin: 1.4rem 0 1.8rem; }
.plot { width: 100%; }
.drawing { overflow-x: auto; }
figcaption { max-width: 46rem; font-size: .92rem; color: var(--soft); }
.tools { display: flex; flex-wrap: wrap; gap: .4rem .6rem; align-items: center; margin: .4rem 0;
  font-size: .85rem; color: var(--soft); }
.note { font-size: .88rem; color: var(--soft); }
.scroll { overflow: auto; max-height: 30rem; position: relative; }
.scroll:has(> .words) { max-height: none; } /* sentences are read, not searched */
table { border-collapse: collapse; font-size: .88rem; margin: .3rem 0; }
th, td { padding: .28rem .7rem; border-bottom: 1px solid var(--line); text-align: left; }
thead { position: sticky; top: 0; background: var(--paper); }
thead tr:last-child th { border-bottom: 2px solid var(--soft); }
td, .data th { white-space: nowrap; } td.number, th.number { text-align: right; }
.words td { white-space: normal; vertical-align: top; } .words th { vertical-align: bottom; }
.words td.yes, .words td.no { white-space: nowrap; }
th[colspan] { text-align: center; }
details { margin: .6rem 0; } summary { cursor: pointer; color: var(--link); }
.code { position: relative; }
pre { background: var(--raised); font-size: .86rem; padding: .7rem; overflow-x: auto; margin: .8rem 0; }
code { background: var(--raised); font-size: .86rem; }
.code button { position: absolute; top: .4rem; right: .4rem; }

@media (max-width: 68rem) {
  html { scroll-padding-top: 4rem; }
  .columns { display: block; }
  nav { top: 0; z-index: 2; margin: 0 -1.2rem; padding: 0 1.2rem; background: var(--paper);
    overflow-x: auto; border-bottom: 1px solid var(--line); }
  nav ol { display: flex; white-space: nowrap; }
  nav a { border-left: 0; border-bottom: 3px solid transparent; padding: .6rem; }
  nav a[aria-current] { border-bottom-color: var(--link); }
}
@media (max-width: 44rem) {
  h1 { font-size: 1.4rem; }
  .plot { min-width: 52rem; } /* a legend and panels need room: a figure scrolls inside its box */
  .words td { min-width: 7rem; }
  .code button { position: static; display: block; margin-left: auto; }
}
@media print {
  @page { margin: 15mm 12mm; }
  body { font-size: 10.5pt; }
  nav, .skip, button, .tools, .modebar { display: none !important; }
  .columns { display: block; } footer, .columns { max-width: none; padding: 0; }
  section { padding: .8rem 0; } h2, summary { break-after: avoid; }
  figure, tr, pre { break-inside: avoid; } pre { white-space: pre-wrap; }
  .drawing { overflow: visible; zoom: .68; }
  .scroll { max-height: none; overflow: visible; } table { font-size: 8pt; }
  td, .data th { white-space: normal; } thead { position: static; }
}
"""


def style_sheet() -> str:
    """The CSS of every report."""

    def variables(colours: dict[str, str]) -> str:
        return " ".join(f"--{name}: {value};" for name, value in colours.items())

    return (
        f":root {{ {variables(LIGHT)} }}\n:root[data-theme=dark] {{ {variables(DARK)} }}\n{_RULES}"
    )
