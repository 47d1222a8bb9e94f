"""The one style sheet: light and dark, high contrast, from 320 px up, no picture and no font of its own."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root {
  color-scheme: light dark;
  --ground: #f3f4f6; --sheet: #ffffff; --ink: #16191d; --quiet: #4d5661; --line: #c9ced6;
  --act: #0b57a4; --act-ink: #ffffff; --act-over: #083f78; --soft: #eef1f5;
  --good: #0f6b3a; --good-ground: #e7f5ec; --care: #7a4a00; --care-ground: #fff4dd;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14171b; --sheet: #1d2127; --ink: #eceff3; --quiet: #aeb8c4; --line: #434b56;
    --act: #8ec3ff; --act-ink: #0b1a2b; --act-over: #b9dbff; --soft: #272c34;
    --good: #7fdca6; --good-ground: #16301f; --care: #ffcf7d; --care-ground: #36290f;
  }
}
@media (prefers-contrast: more) {
  :root { --quiet: var(--ink); --line: var(--ink); }
}
* { box-sizing: border-box; }
html { font: 100%/1.5 system-ui, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
body { margin: 0; padding: 1rem; background: var(--ground); color: var(--ink); }
main, footer { max-width: 42rem; margin: 0 auto; overflow-wrap: anywhere; }
main { background: var(--sheet); border: 1px solid var(--line); border-radius: .75rem; padding: 1.5rem; }
footer { padding: 1rem 1.5rem; color: var(--quiet); font-size: .9rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1rem; line-height: 1.3; margin: 1.5rem 0 .25rem; }
p { margin: 0 0 .75rem; }
strong > bdi { display: inline-block; max-width: 100%; }
bdi, .stranger { overflow: clip; overflow-clip-margin: .25em; }
.kicker { color: var(--quiet); margin: 0 0 .25rem; }
.sender { font-size: 1.2rem; font-weight: 650; margin: 0; }
.sender .site { text-decoration: underline; text-decoration-thickness: .12em; text-underline-offset: .2em; }
.note { display: flex; gap: .75rem; padding: .75rem 1rem; margin: .75rem 0 1rem; border-radius: .5rem;
  border: 1px solid currentColor; }
.note > div { flex: 1; min-width: 0; color: var(--ink); }
.note p { margin: 0; }
.note p + p { margin-top: .35rem; }
.note svg { flex: none; width: 1.5rem; height: 1.5rem; fill: none; stroke: currentColor; stroke-width: 2.25;
  stroke-linecap: round; stroke-linejoin: round; }
.good { color: var(--good); background: var(--good-ground); }
.care { color: var(--care); background: var(--care-ground); }
.good strong, .care strong { color: inherit; }
dl { margin: 0; }
dl > div { display: grid; grid-template-columns: 9rem minmax(0, 1fr); gap: 0 1rem; padding: .3rem 0;
  border-top: 1px solid var(--line); }
dl > div:first-child { border-top: 0; }
dt, dd { margin: 0; }
dt { color: var(--quiet); }
ul { margin: 0; padding: 0; list-style: none; }
li { padding: .4rem 0; }
li + li { border-top: 1px solid var(--line); }
dd li { padding: 0; border: 0; }
ul.plain { list-style: disc; padding-left: 1.25rem; }
ul.plain li { border: 0; padding: .15rem 0; }
.row { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center; justify-content: space-between; }
.row > :first-child { flex: 1 1 12rem; min-width: 0; }
.quiet { color: var(--quiet); }
small, .small { font-size: .9rem; }
form { margin: 0; }
button { font: inherit; font-weight: 600; min-height: 2.75rem; padding: .5rem 1.1rem;
  border-radius: .5rem; border: 2px solid var(--act); background: var(--sheet); color: var(--act);
  cursor: pointer; }
button:hover { border-color: var(--act-over); color: var(--act-over); }
button.chief { background: var(--act); color: var(--act-ink); font-size: 1.1rem; padding: .6rem 1.5rem; }
button.chief:hover { background: var(--act-over); border-color: var(--act-over); color: var(--act-ink); }
input + button, select + button, textarea + button { margin-top: 1rem; }
label { display: block; font-weight: 600; margin: .75rem 0 .25rem; }
input, select, textarea { font: inherit; width: 100%; min-height: 2.75rem; padding: .4rem .6rem;
  color: inherit; background: var(--sheet); border: 1px solid var(--quiet); border-radius: .5rem; }
input[type=checkbox], input[type=radio] { width: 1.25rem; min-height: 1.25rem; }
:focus-visible { outline: 3px solid var(--ink); outline-offset: 3px; border-radius: .25rem; }
.act { margin: 1.5rem 0 0; padding: 1.25rem 0 0; border-top: 1px solid var(--line); }
.act button.chief { margin-bottom: .75rem; }
.act h2 { margin-top: 0; }
.act p:last-child { margin-bottom: 0; }
pre { font: inherit; white-space: pre-wrap; margin: 0; padding: 1rem; border: 1px solid var(--line);
  border-radius: .5rem; background: var(--soft); max-height: 70vh; overflow: auto; }
details { margin-top: 1.25rem; }
summary { cursor: pointer; padding: .5rem 0; font-weight: 600; }
details p:last-child, details dl:last-child { margin-bottom: 0; }
code { font: .85em/1.4 ui-monospace, "DejaVu Sans Mono", monospace; }
label { font-weight: 600; }
input:not([type="hidden"]), select { font: inherit; min-height: 2.75rem; padding: .4rem .6rem; width: 100%;
  border: 1px solid var(--quiet); border-radius: .5rem; background: var(--sheet); color: var(--ink); }
@media (max-width: 30rem) {
  body { padding: 0; }
  main { border: 0; border-radius: 0; padding: 1.25rem 1rem; }
  footer { padding: 1rem; }
  dl > div { grid-template-columns: 6.5rem minmax(0, 1fr); gap: 0 .75rem; }
  .note { gap: .5rem; padding: .6rem .75rem; }
  h2 { margin-top: 1.25rem; }
  .row button { width: auto; }
  button.chief { width: 100%; }
}
@media (forced-colors: active) {
  button, .note, pre, main { border: 2px solid CanvasText; }
  button.chief { border-color: Highlight; }
}
@media print {
  body { background: none; padding: 0; }
  main { border: 0; padding: 0; }
  button, details { display: none; }
  pre { max-height: none; border: 0; padding: 0; }
}
"""
