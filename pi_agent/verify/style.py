"""How the page looks: on a screen, light or dark, on a telephone, and on paper in black and white."""

STYLE = """
:root { color-scheme: light dark; --ink: #1d2024; --soft: #5a616b; --line: #d5d9de; --paper: #fff; --tint: #f4f5f7;
  --owned: #14654a; --inconclusive: #8a5a00; --not-owned: #2f5d94; --open: #a3341f; --bar: #9aa3ad;
  --serif: Georgia, "Times New Roman", "DejaVu Serif", serif;
  --sans: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e9ec; --soft: #a2a9b3; --line: #3a4048; --paper: #15181c;
  --tint: #22272e; --owned: #62c7a0; --inconclusive: #e2b357; --not-owned: #8fb8ea; --open: #f08a73; --bar: #69727d } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 60rem; padding: 2.2rem 1.5rem 4rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 var(--sans); overflow-wrap: anywhere }
h1 { font: 600 1.9rem/1.22 var(--serif); margin: .8rem 0 .9rem; text-wrap: balance }
h2 { font: 600 1.25rem/1.3 var(--serif); margin: 2.6rem 0 .7rem; padding-top: .9rem; border-top: 1px solid var(--line) }
p, ul { margin: .5rem 0; max-width: 46rem }
ul { padding-left: 1.2rem }
li { margin: .35rem 0 }
img { display: block; border-radius: .25rem; background: var(--tint); max-width: 100%; height: auto }
code { font: .85em/1.4 ui-monospace, "DejaVu Sans Mono", monospace }
pre { background: var(--tint); padding: .7rem .9rem; border-radius: .3rem; white-space: pre-wrap; margin: .6rem 0 }
sup { line-height: 0 }
.number { white-space: nowrap }
.lead { font-size: 1.08rem }
.soft, .maker { color: var(--soft) }
.maker { font-size: .85rem; margin: 0 0 1.2rem; display: flex; justify-content: space-between; gap: 0 1rem;
  flex-wrap: wrap; max-width: none }
.stamp { display: inline-block; font-weight: 700; letter-spacing: .09em; text-transform: uppercase; font-size: .88rem;
  border: 2px solid; border-radius: .3rem; padding: .18rem .65rem }
.owned { color: var(--owned) } .inconclusive { color: var(--inconclusive) } .not-owned { color: var(--not-owned) }
.note { border-left: 4px solid var(--open); background: var(--tint); padding: .6rem .9rem; margin: .9rem 0 }
.figures { display: grid; grid-template-columns: repeat(4, 1fr); gap: 1px; margin: 1.4rem 0 0;
  background: var(--line); border: 1px solid var(--line); border-radius: .4rem; overflow: hidden }
.figures div { background: var(--paper); padding: .7rem .9rem }
.figures dt { color: var(--soft); font-size: .82rem }
.figures dd { margin: 0; font-size: 1.25rem; font-weight: 600; font-variant-numeric: tabular-nums; white-space: nowrap }
.example { display: flex; align-items: flex-start; gap: .7rem; margin: 1rem 0 }
.example figure { margin: 0; text-align: center; max-width: 150px; flex: 0 1 150px }
.example b { font-size: 1.5rem; font-weight: 400; margin-top: 3.2rem }
figcaption { font-size: .85rem; color: var(--soft); line-height: 1.35; margin-top: .3rem }
.rules { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(25rem, 100%), 1fr)); gap: .9rem;
  padding: 0; list-style: none; max-width: none; margin-top: 1rem }
.rule { display: grid; grid-template-columns: minmax(90px, 132px) 1fr; gap: .9rem; border: 1px solid var(--line);
  border-radius: .4rem; padding: .8rem; margin: 0; break-inside: avoid; font-size: .9rem; line-height: 1.4 }
.rule > div { min-width: 0 }
.head { display: flex; justify-content: space-between; gap: .6rem; font-weight: 600 }
.head span:last-child { white-space: nowrap }
.hit { color: var(--owned) } .miss { color: var(--soft) }
.bars { display: grid; grid-template-columns: minmax(0, 9rem) minmax(2rem, 1fr) auto; gap: .18rem .5rem;
  align-items: center; margin-top: .45rem; font-size: .83rem; line-height: 1.25; font-variant-numeric: tabular-nums }
.track { display: block; position: relative; height: .5rem; border-bottom: .5rem solid var(--tint) }
.bar { position: absolute; left: 0; top: 0; border-bottom: .5rem solid var(--bar) }
.target { font-weight: 700 } .target + .track .bar { border-color: var(--ink) } .source { color: var(--soft) }
table { border-collapse: collapse; width: 100%; margin: .8rem 0; font-size: .93rem }
th, td { text-align: left; vertical-align: top; padding: .5rem .8rem .5rem 0; border-bottom: 1px solid var(--line) }
th { font-size: .82rem; font-weight: 600; color: var(--soft); white-space: nowrap }
td:first-child { width: 45% } .record td:first-child { width: 12rem; color: var(--soft) }
.tag { font-size: .78rem; font-weight: 700; letter-spacing: .05em; border: 1.5px solid; border-radius: .25rem;
  padding: .05rem .4rem; white-space: nowrap }
.solid { color: var(--owned) } .open { color: var(--open); border-style: dashed }
.told { color: var(--soft); border-style: dotted }
.classes { columns: 3 15rem; font-size: .88rem; list-style: none; padding: 0; max-width: none }
.classes li { margin: 0; padding: .1rem 0; break-inside: avoid }
.record thead { display: none } .record td { border-top: 1px solid var(--line) }
@media (max-width: 40rem) {
  body { padding: 1.2rem 1rem 3rem }
  h1 { font-size: 1.5rem }
  .figures { grid-template-columns: 1fr 1fr } .figures dd { font-size: 1.1rem }
  .example { gap: .35rem } .example figure { flex-basis: 30% } .example b { font-size: 1rem; margin-top: 2rem }
  .rule { grid-template-columns: 90px 1fr; gap: .7rem; padding: .6rem }
  .bars { grid-template-columns: minmax(0, 6.5rem) minmax(1rem, 1fr) auto }
  thead { display: none }
  table, tbody, tr, td, td:first-child, .record td:first-child { display: block; width: auto }
  tr { padding: .6rem 0; border-bottom: 1px solid var(--line) }
  td, .record td { border: 0; padding: .15rem 0 }
  td + td[data-column]:not([data-column=" "])::before { content: attr(data-column) ": "; color: var(--soft) }
}
@media print {
  :root { --ink: #000; --soft: #333; --line: #888; --paper: #fff; --tint: #fff; --bar: #888; --owned: #000;
    --inconclusive: #000; --not-owned: #000; --open: #000 }
  @page { margin: 16mm }
  body { padding: 0; max-width: none; font-size: 10.5pt }
  h2 { break-after: avoid }
  tr, .figures, .note { break-inside: avoid }
  .note { border-left-width: 6px }
  .rules { grid-template-columns: 1fr 1fr; gap: .5rem }
  .rule { grid-template-columns: 76px 1fr; gap: .5rem; padding: .4rem; font-size: 8.5pt }
  .track { border-bottom: 1px solid #888; height: .55rem }
}
"""
