"""The template and the style sheet of a report. Nothing is loaded from the network."""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<header>
<h1>{title}</h1>
{contents}
</header>
{body}
</main>
</body>
</html>
"""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1f2430; --soft: #5b6472; --line: #e3e6eb; --accent: #35618f;
}
@media (prefers-color-scheme: dark) {
  :root { --page: #12151b; --card: #1b2029; --ink: #e8eaee; --soft: #a3abb8; --line: #2e3542; --accent: #8fb8e8; }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
main { max-width: 1180px; margin: 0 auto; padding: 2.2rem 1.2rem 4rem; }
h1 { font-size: clamp(1.5rem, 4vw, 2.2rem); line-height: 1.2; letter-spacing: -0.02em; margin: 0 0 0.4rem; }
h2 { font-size: 1.3rem; letter-spacing: -0.01em; margin: 2.8rem 0 0.6rem; scroll-margin-top: 1rem; }
p { margin: 0.5rem 0 1rem; max-width: 78ch; overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: 0.2rem 1.1rem; font-size: 0.92rem; }
nav a { color: var(--accent); text-decoration: none; }
nav a:hover { text-decoration: underline; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); gap: 0.8rem; margin: 1.6rem 0; }
.number { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 0.9rem 1.1rem; }
.number b {
  display: block; font-size: 2.05rem; line-height: 1.15; letter-spacing: -0.03em; font-variant-numeric: tabular-nums;
}
.number span { display: block; font-size: 0.92rem; }
.number small { display: block; color: var(--soft); font-size: 0.82rem; }
.scroll { overflow-x: auto; }
table {
  border-collapse: collapse; width: 100%; margin: 0.8rem 0; background: var(--card); font-variant-numeric: tabular-nums;
  border: 1px solid var(--line); border-radius: 12px; border-spacing: 0; overflow: hidden;
}
th, td { padding: 0.5rem 0.75rem; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; font-size: 0.86rem; white-space: normal; vertical-align: bottom; }
tr:last-child td { border-bottom: 0; }
.right { text-align: right; }
figure { margin: 1.2rem 0; background: #ffffff; border: 1px solid var(--line); border-radius: 12px; overflow: hidden; }
figure img { display: block; height: auto; max-width: 100%; margin: 0.5rem auto; }
figcaption {
  background: var(--card); border-top: 1px solid var(--line); color: var(--soft); padding: 0.6rem 1.1rem;
  font-size: 0.92rem; overflow-wrap: anywhere;
}
pre {
  background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 0.9rem 1.1rem; overflow-x: auto;
  font: 0.84rem/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
}
@media (max-width: 700px) {
  main { padding: 1.2rem 0.7rem 3rem; }
  .numbers { grid-template-columns: repeat(auto-fit, minmax(132px, 1fr)); gap: 0.5rem; }
  .number { padding: 0.6rem 0.8rem; }
  .number b { font-size: 1.6rem; }
  table, tbody, tr, td { display: block; }
  tr:has(th) { display: none; }
  tr { padding: 0.5rem 0.8rem; border-bottom: 1px solid var(--line); }
  tr:last-child { border-bottom: 0; }
  td { display: flex; justify-content: space-between; gap: 1rem; padding: 0.1rem 0; border: 0; white-space: normal; }
  td::before { content: attr(data-name); color: var(--soft); }
  td:first-child { font-weight: 600; }
  td:first-child::before { content: none; }
}
@media print { body { background: #ffffff; } figure, table, .number { break-inside: avoid; } }
"""
