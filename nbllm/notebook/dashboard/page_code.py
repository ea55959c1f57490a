"""What runs in the page: the dashboard's look, and scripts that do what no core widget can.

One accent, JupyterLab's own colours with fallbacks, two columns. The scripts are fixed texts. What
a model or a reader wrote is never part of one: they read it from the page, where it stands
escaped. A front end that runs no scripts has the buttons, and shows the text that is to be copied.
"""

from __future__ import annotations

from nbllm.core.rendering.escaping import attribute_html

__all__ = ["COPY", "ENTRIES", "STYLE", "SUBMIT_MARK", "TO_CELL", "runs"]

STYLE = """<style>
.nbllm-board {
  --nbllm-text: var(--jp-ui-font-color1, CanvasText);
  --nbllm-soft: var(--jp-ui-font-color2, GrayText);
  --nbllm-line: var(--jp-border-color2, #8884);
  --nbllm-card: var(--jp-layout-color1, Canvas);
  --nbllm-fill: var(--jp-layout-color2, #8882);
  --nbllm-accent: var(--jp-brand-color1, #1f83c4);
  --nbllm-error: var(--jp-error-color1, #d32f2f);
  color: var(--nbllm-text); font-family: var(--jp-ui-font-family, system-ui, sans-serif);
  font-size: 13px; width: 100%; container-type: inline-size; overflow: visible; padding: 4px 2px;
}
.nbllm-board .widget-html, .nbllm-board .widget-html-content { height: auto; min-height: 0;
  line-height: 1.45; margin: 0; width: 100%; min-width: 0; overflow: visible; font-size: 13px; }
.nbllm-board .widget-html:has(> .widget-html-content:empty) { display: none; }
.nbllm-board .widget-box { overflow: visible; margin: 0; }
.nbllm-board b { font-weight: 600; font-variant-numeric: tabular-nums; }
.nbllm-board .nbllm-soft { color: var(--nbllm-soft); }
.nbllm-columns { display: grid !important; gap: 12px;
  grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); align-items: start; }
@container (max-width: 720px) {
  .nbllm-columns { grid-template-columns: minmax(0, 1fr); }
  .nbllm-columns > .nbllm-column { display: contents !important; }
  .nbllm-last { order: 1; }
}
.nbllm-column { display: grid !important; gap: 12px; min-width: 0; }
.nbllm-card { background: var(--nbllm-card); border: 1px solid var(--nbllm-line);
  border-radius: 8px; padding: 12px 14px !important; min-width: 0; gap: 8px; }
.nbllm-title { font-weight: 600; font-size: 13px; display: flex; justify-content: space-between;
  gap: 12px; }
.nbllm-title span { color: var(--nbllm-soft); font-weight: 400; }
.nbllm-head, .nbllm-line, .nbllm-buttons, .nbllm-actions { flex-direction: row !important;
  align-items: center !important; }
.nbllm-head { gap: 12px; padding: 0 2px 10px !important; }
.nbllm-head .widget-html { flex: 1 1 auto; }
.nbllm-brand { display: flex; align-items: baseline; gap: 10px; flex-wrap: wrap; }
.nbllm-brand strong { font-size: 17px; letter-spacing: -0.01em; }
.nbllm-dot { display: inline-block; width: 8px; height: 8px; border-radius: 50%;
  background: var(--nbllm-soft); margin-right: 6px; }
.nbllm-dot.on { background: var(--nbllm-accent); }
.nbllm-meter { display: grid; grid-template-columns: 64px minmax(40px, 1fr) 136px; gap: 10px;
  align-items: center; padding: 2px 0; }
.nbllm-meter > span { color: var(--nbllm-soft); }
.nbllm-meter > b { text-align: right; font-weight: 400; white-space: nowrap; }
.nbllm-bar { height: 6px; border-radius: 3px; background: var(--nbllm-fill); overflow: hidden; }
.nbllm-bar i { display: block; height: 100%; background: var(--nbllm-accent); border-radius: 3px; }
.nbllm-device + .nbllm-device { margin-top: 10px; }
.nbllm-name { font-weight: 600; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.nbllm-chart svg { display: block; width: 100%; height: 84px; overflow: visible; }
.nbllm-plot { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: 8px; }
.nbllm-scale { display: flex; flex-direction: column; justify-content: space-between;
  font-size: 11px; line-height: 1; margin: -5px 0; color: var(--nbllm-soft); min-width: 26px;
  text-align: right; font-variant-numeric: tabular-nums; }
.nbllm-times { display: flex; justify-content: space-between; font-size: 11px;
  color: var(--nbllm-soft); margin: 6px 0 0 34px; }
.nbllm-legend { display: flex; flex-wrap: wrap; gap: 2px 16px; min-height: 19px;
  margin-bottom: 8px; }
.nbllm-key { display: inline-block; width: 14px; height: 3px; border-radius: 2px;
  vertical-align: middle; margin-right: 6px; background: currentColor; }
.nbllm-grid { stroke: var(--nbllm-line); stroke-width: 1; vector-effect: non-scaling-stroke; }
.nbllm-line { fill: none; stroke: currentColor; stroke-width: 1.8; stroke-linejoin: round;
  vector-effect: non-scaling-stroke; }
.nbllm-area { fill: currentColor; opacity: 0.12; }
.nbllm-s0 { color: var(--nbllm-accent); } .nbllm-s1 { color: #d55e00; }
.nbllm-s2 { color: #009e73; } .nbllm-s3 { color: #b5659a; }
.nbllm-s4 { color: #b07a00; } .nbllm-s5 { color: #7a7a7a; }
.nbllm-row { gap: 2px; padding: 8px 0 !important; border-top: 1px solid var(--nbllm-line); }
.nbllm-row:last-child { padding-bottom: 0 !important; }
.nbllm-board .nbllm-models { max-height: 420px; overflow: hidden auto; flex: 0 1 auto;
  scrollbar-width: thin; padding-right: 2px; }
.nbllm-board .nbllm-files { max-height: 640px; }
.nbllm-group { font-weight: 600; color: var(--nbllm-soft); padding: 8px 0 2px; }
.nbllm-wrap { white-space: pre-wrap; overflow-wrap: anywhere; }
.nbllm-table { max-height: 260px; overflow: auto; }
.nbllm-table table { width: 100%; border-collapse: collapse; font-size: 12px; }
.nbllm-table th { text-align: left; font-weight: 400; color: var(--nbllm-soft); }
.nbllm-table :is(td, th) { padding: 3px 10px 3px 0; border-bottom: 1px solid var(--nbllm-line);
  white-space: nowrap; font-variant-numeric: tabular-nums; }
.nbllm-line { gap: 8px; min-width: 0; }
.nbllm-line > .widget-html { flex: 1 1 0; }
.nbllm-buttons { gap: 6px; flex: 0 0 auto; width: auto; }
.nbllm-model-name { display: flex; align-items: baseline; gap: 0; min-width: 0; }
.nbllm-model-name .nbllm-dot { flex: none; }
.nbllm-model-name b, .nbllm-asked, .nbllm-details > div { min-width: 0; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; }
.nbllm-details > div { font-variant-numeric: tabular-nums; }
.nbllm-details .nbllm-bar { margin-top: 4px; }
.nbllm-badge { flex: none; margin-left: 8px; padding: 0 7px; border-radius: 9px; font-size: 11px;
  line-height: 17px; color: var(--nbllm-accent); border: 1px solid currentColor; }
.nbllm-problem { color: var(--nbllm-error); white-space: pre-wrap; overflow-wrap: anywhere; }
.nbllm-board .nbllm-wrong input { border-color: var(--nbllm-error) !important; }
.nbllm-offer pre { max-height: 140px; overflow: auto; margin: 4px 0 0; padding: 8px;
  user-select: all; white-space: pre-wrap; overflow-wrap: anywhere; font-size: 12px;
  background: var(--nbllm-fill); border-radius: 5px; color: inherit; }
.nbllm-board button.jupyter-button { height: 26px; line-height: 24px; padding: 0 10px; width: auto;
  margin: 0; border-radius: 5px; font-size: 12px; flex: 0 0 auto; box-shadow: none;
  background: transparent; border: 1px solid var(--nbllm-line); color: var(--nbllm-text); }
.nbllm-board button.jupyter-button:hover:enabled { border-color: var(--nbllm-accent);
  color: var(--nbllm-accent); box-shadow: none; }
.nbllm-board button.jupyter-button.mod-primary { background: var(--nbllm-accent); color: #fff;
  border-color: var(--nbllm-accent); }
.nbllm-board button.jupyter-button.mod-primary:hover:enabled { color: #fff;
  filter: brightness(1.1); }
.nbllm-board button.jupyter-button.nbllm-on { color: var(--nbllm-accent);
  border-color: var(--nbllm-accent); }
.nbllm-fields { display: grid !important; gap: 8px 10px;
  grid-template-columns: minmax(0, 2fr) minmax(0, 1fr) minmax(0, 1fr) minmax(0, 1fr); }
.nbllm-fields.nbllm-load-with { grid-template-columns: minmax(0, 2fr) minmax(0, 1fr)
  minmax(0, 1fr); }
.nbllm-fields.nbllm-pairs { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); }
.nbllm-fields.nbllm-two { grid-template-columns: minmax(0, 2fr) minmax(0, 1fr); }
@container (min-width: 721px) and (max-width: 1040px) {
  .nbllm-fields { grid-template-columns: repeat(3, minmax(0, 1fr)); }
  .nbllm-fields.nbllm-load-with { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .nbllm-fields:not(.nbllm-two, .nbllm-pairs) > :first-child { grid-column: 1 / -1; }
}
.nbllm-entry > .nbllm-line { align-items: flex-end !important; }
.nbllm-board .nbllm-field { width: 100%; margin: 0; display: flex; flex-direction: column;
  align-items: stretch; height: auto; }
.nbllm-board .nbllm-field .widget-label { width: auto; text-align: left; color: var(--nbllm-soft);
  font-size: 11px; height: 18px; line-height: 18px; margin: 0; }
.nbllm-board .nbllm-field input, .nbllm-board .nbllm-field select,
.nbllm-board .nbllm-field textarea { border-radius: 5px; width: 100%; font-size: 13px;
  flex: 0 0 auto; }
.nbllm-board .nbllm-field select { height: 28px; padding: 0 24px 0 8px; line-height: 26px;
  appearance: none; background-repeat: no-repeat !important; background-size: 5px 5px !important;
  background-position: calc(100% - 13px) 11px, calc(100% - 8px) 11px !important;
  background-image: linear-gradient(45deg, transparent 50%, var(--nbllm-soft) 50%),
    linear-gradient(135deg, var(--nbllm-soft) 50%, transparent 50%) !important; }
.nbllm-actions { gap: 8px; flex-wrap: wrap; }
.nbllm-actions > .widget-html { flex: 1 1 160px; }
.nbllm-answer { border-left: 3px solid var(--nbllm-accent); padding-left: 12px !important; }
.nbllm-answer:empty { display: none; }
.nbllm-answer .jp-OutputArea-output { padding: 0; }
.nbllm-answer .jp-OutputPrompt { display: none; }
.nbllm-log { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: 2px 12px; }
.nbllm-log time { color: var(--nbllm-soft); font-variant-numeric: tabular-nums; }
.nbllm-log div { overflow-wrap: anywhere; }
.nbllm-hidden { display: none !important; }
.nbllm-board button.jupyter-button.nbllm-pin { width: 56px; padding: 0; }
.nbllm-board button.jupyter-button.nbllm-load { width: 66px; padding: 0; }
.nbllm-entry .nbllm-line button.jupyter-button { height: 28px; }
</style>"""


SUBMIT_MARK = "\u2063"
"""Ends the text of an entry that is submitted, so that both come in one message.

A button's press would overtake the last letters: a page sends a text that changes only when the
kernel has confirmed its last change."""

ENTRIES = f"""
if (!window.nbllmEntries) {{
  window.nbllmEntries = true;
  const stop = (event) => {{ event.preventDefault(); event.stopImmediatePropagation(); }};
  const submit = (field) => {{
    const text = field.value;
    field.value = text + '\\u{ord(SUBMIT_MARK):04x}';
    field.dispatchEvent(new Event('input', {{bubbles: true}}));
    field.value = text;
  }};
  const inside = (event, selector) =>
    event.target instanceof Element ? event.target.closest('.nbllm-entry ' + selector) : null;
  window.addEventListener('keydown', (event) => {{
    const place = inside(event, '.nbllm-text');
    if (!place || event.key !== 'Enter' || event.isComposing) return;
    if (event.target.tagName === 'TEXTAREA' && !event.ctrlKey && !event.metaKey) return;
    stop(event);
    submit(event.target);
  }}, true);
  window.addEventListener('click', (event) => {{
    const button = inside(event, '.nbllm-go');
    const field = button && button.closest('.nbllm-entry')
      .querySelector('.nbllm-text input, .nbllm-text textarea');
    if (!field || button.disabled) return;
    stop(event);
    submit(field);
  }}, true);
}}
"""
"""Enter in a line, and Ctrl+Enter or ⌘+Enter in a text, submit an entry as its button does."""

_OFFER = """
const offer = this.closest('.nbllm-offer');
const board = this.closest('.nbllm-board');
const isAsked = !navigator.userActivation || navigator.userActivation.isActive;
if (offer && board && isAsked && window.nbllmOffer !== offer.dataset.id) {{
  window.nbllmOffer = offer.dataset.id;
  const text = offer.querySelector('pre').textContent;
  const done = () => {{
    offer.style.display = 'none';
    board.querySelector('.nbllm-done').click();
  }};
  {body}
}}
"""
"""Once in a page, and only in that in which the button was pressed."""

COPY = _OFFER.format(
    body="""
  const select = () => {
    const area = document.createElement('textarea');
    area.value = text;
    document.body.append(area);
    area.select();
    if (document.execCommand('copy')) done();
    area.remove();
  };
  if (navigator.clipboard) navigator.clipboard.writeText(text).then(done, select);
  else select();
"""
)
"""Puts the text of an offer into the clipboard."""

TO_CELL = _OFFER.format(
    body="""
  const panel = this.closest('.jp-NotebookPanel');
  const insert = panel && panel.querySelector('[data-command="notebook:insert-cell-below"]');
  const before = panel && panel.querySelector('.jp-Cell.jp-mod-active');
  const paste = (tries) => {
    const cell = panel.querySelector('.jp-Cell.jp-mod-active');
    const editor = cell && cell !== before && cell.querySelector('.cm-content');
    if (editor) {
      const data = new DataTransfer();
      data.setData('text/plain', text);
      const kind = {clipboardData: data, bubbles: true, cancelable: true};
      editor.focus();
      editor.dispatchEvent(new ClipboardEvent('paste', kind));
      const first = text.split('\\n')[0];
      setTimeout(() => { if (editor.textContent.includes(first)) done(); }, 100);
    } else if (tries) setTimeout(() => paste(tries - 1), 50);
  };
  if (insert) {
    for (const kind of ['mousedown', 'click'])
      insert.dispatchEvent(new MouseEvent(kind, {bubbles: true, cancelable: true, button: 0}));
    paste(40);
  }
"""
)
"""Inserts a cell with the text of an offer, as JupyterLab's and Notebook 7's toolbars do."""


def runs(script: str) -> str:
    """An element that runs ``script`` where it is shown."""
    return f'<img src="data:," alt="" hidden onerror="{attribute_html(script)}">'
