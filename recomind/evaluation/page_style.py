"""The style sheet of `report.html`: one palette for light, one for dark, both by variables."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1b2430; --muted: #5d6b7c; --rule: #dde2e9;
  --grid: #e8ecf1; --good: #12734a; --good-soft: #e3f4eb; --bad: #a8322a; --bad-soft: #fbe9e7;
  --accent: #1f5fbf; --soft: #eef2f8;
  --arm-0: #1f5fbf; --arm-1: #d9730d; --arm-2: #7b8694; --arm-3: #1a8f6f; --arm-4: #8d4bbb;
  --arm-5: #b8860b; }
@media (prefers-color-scheme: dark) { :root {
  --page: #11161d; --card: #19202a; --ink: #e6ebf2; --muted: #9aa7b8; --rule: #2c3644;
  --grid: #26303d; --good: #5fd39b; --good-soft: #15342a; --bad: #ff8f85; --bad-soft: #3b1f1e;
  --accent: #79aef7; --soft: #202a37;
  --arm-0: #79aef7; --arm-1: #f5a04a; --arm-2: #97a3b3; --arm-3: #4fcaa6; --arm-4: #c795ea;
  --arm-5: #e0bd4f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 1.05rem; margin: 0; color: var(--muted); font-weight: 600; }
h2 { font-size: 1.25rem; margin: 40px 0 4px; }
h3 { font-size: .95rem; margin: 22px 0 6px; }
p { margin: 6px 0; } .note { color: var(--muted); max-width: 75ch; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  padding: 18px 20px; margin-top: 12px; }
.verdict { border-left: 6px solid var(--bad); } .verdict.yes { border-left-color: var(--good); }
.verdict .word { font-size: 1.9rem; font-weight: 700; line-height: 1.2; color: var(--bad); }
.verdict.yes .word { color: var(--good); }
.verdict.untested { border-left-color: var(--muted); }
.verdict.untested .word { color: var(--muted); }
.verdict ul { margin: 10px 0 0; padding-left: 20px; }
.warning { border-left: 4px solid var(--arm-5); padding-left: 10px; margin-top: 10px; }
.boxes { display: grid; grid-template-columns: repeat(auto-fit, minmax(240px, 1fr)); gap: 10px; }
.box { border-left: 5px solid var(--muted); background: var(--soft); padding: 8px 12px; }
.box small { display: block; color: var(--muted); } .box b { overflow-wrap: anywhere; }
.box.yes { border-left-color: var(--good); background: var(--good-soft); }
.box.no { border-left-color: var(--bad); background: var(--bad-soft); }
.badge { display: inline-block; font-size: .78rem; font-weight: 600; padding: 1px 9px;
  border-radius: 99px; background: var(--soft); color: var(--muted); vertical-align: middle;
  margin-left: 8px; }
.badge.decides { background: var(--good-soft); color: var(--good); }
.badge.never { background: var(--bad-soft); color: var(--bad); }
.scroll { overflow-x: auto; } .scroll + .scroll { margin-top: 22px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 12px; text-align: right; border-bottom: 1px solid var(--grid);
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
thead th { color: var(--muted); font-weight: 600; font-size: .85rem;
  border-bottom-color: var(--rule); }
tr.target td { font-weight: 650; background: var(--soft); }
tr.target td:first-child { padding-left: 6px; }
td small { color: var(--muted); font-weight: 400; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(310px, 1fr)); gap: 18px; }
.plots h3 { margin: 0 0 4px; }
svg { width: 100%; height: auto; display: block; overflow: visible; }
svg.wide { min-width: 620px; }
svg text { font-size: 12px; fill: var(--muted); } svg text.strong { fill: var(--ink);
  font-weight: 650; }
svg .grid { stroke: var(--grid); } svg .axis { stroke: var(--rule); }
svg .zero { stroke: var(--muted); stroke-width: 1.3; }
svg .diagonal { stroke: var(--muted); stroke-dasharray: 4 4; }
svg .line { fill: none; stroke-width: 2.2; stroke-linejoin: round; }
svg .whisker { stroke-width: 2.4; stroke-linecap: round; }
svg line.clear { stroke: var(--accent); } svg circle.clear { fill: var(--accent); }
svg line.unclear { stroke: var(--muted); } svg circle.unclear { fill: var(--muted); }
svg circle.hollow { fill: var(--card); stroke: var(--muted); stroke-width: 2; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: .85rem; color: var(--muted);
  margin-top: 4px; }
.legend i { display: inline-block; width: 14px; height: 3px; border-radius: 2px;
  vertical-align: middle; margin-right: 6px; }
.empty { color: var(--muted); font-style: italic; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 6px 18px; margin: 0; }
dt { font-weight: 600; } dd { margin: 0; color: var(--muted); }
@media (max-width: 560px) { main { padding: 14px 10px 40px; } .card { padding: 12px 10px; }
  svg.wide { min-width: 0; } svg text { font-size: 15px; }
  table, tbody, tr, td { display: block; width: 100%; } thead { display: none; }
  tr { border-bottom: 1px solid var(--rule); padding: 6px 0; }
  td, td:first-child, tr.target td:first-child { border: 0; padding: 1px 6px;
    white-space: normal; overflow-wrap: anywhere; }
  td:first-child { font-weight: 650; } td[data-of]::before { content: attr(data-of);
    float: left; color: var(--muted); padding-right: 10px; } }
@media (max-width: 560px) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin: 0 0 8px; } }
dl.about { grid-template-columns: max-content 1fr; gap: 0 14px; font-size: .9rem; }
h4 { font-size: .85rem; margin: 12px 0 2px; color: var(--muted); }
.session { border-top: 1px solid var(--grid); padding: 8px 0; }
.strip { margin: 2px 0; } .strip small { color: var(--muted); }
.strip div { display: flex; flex-wrap: wrap; gap: 2px; align-items: center; }
.strip i { width: 13px; height: 13px; border: 2px solid var(--c); border-radius: 2px; }
.strip i.on { background: var(--c); } .strip span { padding-left: 4px; color: var(--muted); }
table.heat td { background: color-mix(in srgb, var(--good-soft) var(--heat, 0%), var(--card)); }
@media (max-width: 560px) { table.heat, .heat tbody { display: block; }
  .heat thead { display: table-header-group; } table.heat { display: table; }
  .heat tr { display: table-row; } .heat td, .heat th { display: table-cell; width: auto;
  padding: 3px 5px; font-size: .78rem; } .heat tbody { display: table-row-group; } }
@media print { .card { break-inside: avoid; } }
""" + "".join(
    f"svg .line.arm-{i}{{stroke:var(--arm-{i})}} svg .dot.arm-{i}{{fill:var(--arm-{i})}} "
    f".legend .arm-{i}{{background:var(--arm-{i})}} .strip .k{i}{{--c:var(--arm-{i})}}\n"
    for i in range(6)
)
