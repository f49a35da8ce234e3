"""The page of a report: its style and its template, rendered with everything escaped."""

from __future__ import annotations

from typing import Any

from msgan.metrics import CATALOGUE
from msgan.report.page import STYLE

OWN_STYLE = """
h2 { margin: 2.5rem 0 .3rem; font-size: 1.3rem; } h3 { margin: 1.6rem 0 .2rem; font-size: 1.05rem; }
section.sheet { margin-top: 2rem; padding: 1.25rem 1.25rem 1.5rem; background: var(--card);
  border: 1px solid var(--line); border-radius: 6px; } section.sheet > h2 { margin-top: 0; }
nav ul { margin: .4rem 0 0; padding-left: 1.2rem; } nav { margin-top: 1.2rem; }
.scroll { overflow-x: auto; margin-top: .3rem; } .scroll:focus-visible { outline: 2px solid; }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
caption { caption-side: top; text-align: left; font-weight: 600; padding: .2rem 0 .3rem; }
th, td { padding: .25rem .8rem .25rem 0; text-align: right; vertical-align: top;
  white-space: nowrap; } th { font-weight: 600; } tbody th { font-weight: 400; }
th.word, td.word { text-align: left; white-space: normal; min-width: 5rem; }
thead tr { border-top: 2px solid var(--ink); border-bottom: 1px solid var(--ink); }
tbody { border-bottom: 2px solid var(--ink); } tbody tr + tr { border-top: 1px solid var(--line); }
td small { display: block; color: var(--dim); font-size: .93em; } td.best { font-weight: 700; }
td.wide { text-align: left; white-space: normal; min-width: 12rem; }
.note { max-width: 46rem; margin: .35rem 0 0; color: var(--dim); font-size: .83rem; }
figure { margin: 1rem 0 0; } figure img { max-width: 100%; height: auto; background: #fff;
  border-radius: 4px; } figcaption { max-width: 46rem; color: var(--dim); font-size: .87rem; }
.problem { margin: .6rem 0 0; padding: .5rem .7rem; border: 1px solid var(--bad);
  border-radius: 4px; color: var(--bad); overflow-wrap: anywhere; }
details { margin-top: .7rem; } summary { cursor: pointer; color: var(--link); }
details pre { color: var(--ink); max-height: 32rem; overflow: auto; }
dd { overflow-wrap: anywhere; }
dl.facts { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .15rem 1.2rem;
  margin-top: .6rem; font-size: .87rem; } dl.facts dt { font-size: inherit; }
@media (max-width: 40rem) { body { padding: 1rem .6rem 2rem; } section.sheet { padding: .8rem; } }
@media print { :root { color-scheme: light; --ink: #000; --dim: #444; --page: #fff; --card: #fff;
  --line: #bbb; --good: #000; --bad: #000; --link: #000; } html { font-size: 11px; }
  body { max-width: none; padding: 0; font-size: 1rem; }
  section.sheet { border: 0; padding: 0; } .scroll { overflow: visible; }
  th, td { white-space: normal; padding-right: .5rem; } figure, tr { break-inside: avoid; }
  h2, h3, caption { break-after: avoid; } details::details-content { content-visibility: visible; }
  details pre { max-height: none; overflow: visible; } .ledger table { font-size: 9px; } }
"""

PAGE = """<!doctype html>
{%- macro problems(lines) %}{% for line in lines %}
<p class="problem">Could not be read: {{ line }}</p>{% endfor %}{% endmacro %}
{%- macro facts(pairs) %}
<dl class="facts">{% for name, value in pairs %}
<dt>{{ name }}</dt><dd>{{ value }}</dd>{% endfor %}
</dl>{% endmacro %}
{%- macro show(table) %}
<div class="scroll" role="region" tabindex="0" aria-label="{{ table.title }}">
<table>
<caption>{{ table.title }}</caption>
<thead><tr>{% for name in table.columns %}<th scope="col"
 {%- if loop.index <= table.words or loop.revindex <= table.tail %} class="word"{% endif %}>
{{- name }}</th>{% endfor %}
</tr></thead>
<tbody>{% for row in table.rows %}
<tr>{% for cell in row %}{% if loop.first %}<th scope="row" class="word">{{ cell.text }}</th>
{%- else %}<td class="{% if loop.index <= table.words %}word
{%- elif loop.revindex <= table.tail %}wide{% elif cell.best %}best{% endif %}">
{{- cell.text }}{{ "*" if cell.best }}
{%- if cell.interval %}<small>{{ cell.interval }}</small>{% endif %}</td>
{%- endif %}{% endfor %}</tr>{% endfor %}
</tbody>
</table>
</div>
<p class="note">{{ table.note }} Files: {{ table.name }}.csv and .tex in the folder tables.</p>
{% endmacro -%}
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>msgan report: {{ name }}</title>
<style>{{ style|safe }}</style>
</head>
<body>
<header>
<h1>Report: {{ name }}</h1>
<p>{{ summary }}</p>
{{ facts(about) }}
</header>
<nav aria-label="Contents"><strong>Contents</strong>
<ul>{% for part in experiments %}
<li><a href="#e{{ loop.index }}">{{ part.experiment.title }}</a></li>{% endfor %}
{% if cards or unread %}<li><a href="#cascades">Trained cascades</a></li>{% endif %}
<li><a href="#ledger">Ledger: printed against ours</a></li></ul>
</nav>
<main>{% for part in experiments %}
<section class="sheet" id="e{{ loop.index }}">
<h2>{{ part.experiment.title }}</h2>
{{- problems(part.experiment.problems) }}
{{- facts(part.facts) }}
{%- if part.experiment.figures %}
<h3>Key figures</h3>
<dl>{% for name, value in part.figures %}<div><dt>{{ name }}</dt><dd>{{ value }}</dd></div>
{% endfor %}</dl>{% endif %}
{%- if part.tables %}
<h3>Scores</h3>{% for table in part.tables %}{{ show(table) }}{% endfor %}{% endif %}
{%- if part.tests %}
<h3>Paired tests</h3>{% for table in part.tests %}{{ show(table) }}{% endfor %}
{%- elif part.tables %}
<p class="note">No paired tests were kept with these scores.</p>{% endif %}
{%- if part.experiment.pictures %}
<h3>Figures</h3>{% for picture in part.experiment.pictures %}
<figure>
<img src="{{ picture.address }}" alt="{{ picture.heading }}: {{ picture.text }}">
<figcaption><strong>{{ picture.heading }}.</strong> {{ picture.text }}</figcaption>
</figure>{% endfor %}
{%- else %}
<p class="note">No executed notebook with figures lies beside these results.</p>{% endif %}
{%- for table in part.others %}
<details><summary>{{ table.title }}</summary>{{ show(table) }}</details>{% endfor %}
</section>{% endfor %}
{%- if cards or unread %}
<section class="sheet" id="cascades">
<h2>Trained cascades</h2>
{{- problems(unread) }}
{%- for card in cards %}
<h3>{{ card.name }}</h3>
{{- facts(card.facts) }}
{{- show(card.scales) }}
<details><summary>Configuration: preset {{ card.preset }}
{%- if card.differences %}, changed in {{ card.differences|length }}{% endif %}</summary>
{%- if card.differences %}
<div class="scroll"><table><thead><tr><th class="word">value</th><th class="word">preset</th>
<th class="word">here</th></tr></thead><tbody>{% for key, there, here in card.differences %}
<tr><th scope="row" class="word">{{ key }}</th><td class="word">{{ there }}</td>
<td class="word">{{ here }}</td></tr>{% endfor %}</tbody></table></div>{% endif %}
<pre>{{ card.config }}</pre></details>
<details><summary>Data: SHA-256 of {{ card.data|length }} subjects</summary>
<pre>{% for subject, digest in card.data %}{{ digest }}  {{ subject }}
{% endfor %}</pre></details>{% endfor %}
</section>{% endif %}
<section class="sheet ledger" id="ledger">
<h2>Ledger: printed against ours</h2>
{{- show(ledger) }}
</section>
</main>
<footer>{{ better }} Peak memory of a notebook is
the sampled peak of its kernel and worker processes on the host.</footer>
</body>
</html>
"""


def render(**content: Any) -> str:
    """The page; what is missing in ``content`` is an error, and all of it is escaped."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=False
    )
    return environment.from_string(PAGE).render(
        style=STYLE + OWN_STYLE, better=_better(), **content
    )


def _better() -> str:
    """Which end of each metric is better, in words."""
    ends: dict[str, list[str]] = {"higher": [], "lower": []}
    for metric in CATALOGUE.values():
        ends[metric.better].append(metric.label)
    return "; ".join(f"{', '.join(labels)}: {end} is better" for end, labels in ends.items()) + "."
