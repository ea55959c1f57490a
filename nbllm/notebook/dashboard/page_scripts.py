"""The dashboard's own scripts, which do in the page what no core widget can.

They are fixed texts. What a model or a reader wrote is never part of one: they read it from the
page, where it stands escaped. A front end that runs no scripts has the buttons, and shows the text
that is to be copied.
"""

from __future__ import annotations

from nbllm.core.rendering.escaping import attribute_html

__all__ = ["COPY", "ENTRIES", "SUBMIT_MARK", "TO_CELL", "runs"]

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
