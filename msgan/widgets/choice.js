// A menu of groups that is searched by typing: every word typed must stand in a name or a detail.

const STYLE = `
.msgan-choice { position: relative; display: flex; align-items: center; gap: 8px; width: 100%;
  box-sizing: border-box; font-size: 13px; color: var(--jp-ui-font-color1, #111); }
.msgan-choice input { flex: 1; min-width: 0; height: 30px; box-sizing: border-box; font: inherit;
  padding: 0 28px 0 8px; border: 1px solid var(--jp-border-color1, #bbb); border-radius: 3px;
  color: inherit; background: var(--jp-layout-color1, #fff); text-overflow: ellipsis; }
.msgan-choice input:focus { outline: 2px solid #56b4e9; outline-offset: -1px; }
.msgan-choice .open { position: absolute; right: 9px; pointer-events: none; }
.msgan-choice .list { position: absolute; z-index: 20; top: 32px; right: 0; left: 0;
  max-height: 380px; overflow-y: auto; border: 1px solid var(--jp-border-color1, #bbb);
  border-radius: 3px; background: var(--jp-layout-color1, #fff);
  box-shadow: 0 4px 14px #0004; }
.msgan-choice .group { position: sticky; top: 0; padding: 5px 8px 4px; font-weight: 600;
  background: var(--jp-layout-color2, #eee); }
.msgan-choice .entry { display: flex; gap: 16px; justify-content: space-between;
  padding: 4px 8px 4px 18px; cursor: pointer; }
.msgan-choice .entry.active { background: #56b4e944; }
.msgan-choice .entry[aria-selected=true] .name { font-weight: 600; }
.msgan-choice .detail { color: var(--jp-ui-font-color2, #555); text-align: right; }
.msgan-choice .none { padding: 8px; }
`;

let numbers = 0;
const seen = new WeakSet();

function part(parent, tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  parent.append(made);
  return made;
}

function render({ model, el }) {
  part(el, "style", "", STYLE);
  el.style.width = "100%";
  const root = part(el, "div", "msgan-choice");
  const field = part(root, "input", "");
  part(root, "span", "open", "▾");
  const list = part(root, "div", "list");
  const id = `msgan-choice-${numbers++}`;
  list.id = id;
  list.hidden = true;
  list.setAttribute("role", "listbox");
  for (const [name, value] of Object.entries({
    role: "combobox", "aria-controls": id, "aria-autocomplete": "list", spellcheck: "false",
    "aria-label": model.get("label"), placeholder: "type to search", autocomplete: "off",
  })) field.setAttribute(name, value);
  root.dataset.lmSuppressShortcuts = "true";  // else JupyterLab takes the keys
  let active = 0, shown = [];

  const all = () => model.get("groups").flatMap((group) => group.entries);
  const chosen = () => all().find((entry) => entry.key === model.get("value"));

  function close() {
    list.hidden = true;
    field.setAttribute("aria-expanded", "false");
    const entry = chosen();
    field.value = entry ? entry.name : "";
    root.title = entry ? [entry.name, entry.detail].filter(Boolean).join(" · ") : "";
  }
  function choose(entry) {
    model.set("value", entry.key);
    model.save_changes();
    close();
    field.blur();
  }
  function mark(number) {
    active = Math.min(Math.max(number, 0), shown.length - 1);
    shown.forEach(({ row }, i) => row.classList.toggle("active", i === active));
    const row = shown[active]?.row;
    row?.scrollIntoView({ block: "nearest" });
    if (row) field.setAttribute("aria-activedescendant", row.id);
  }
  function offer(words) {
    list.replaceChildren();
    shown = [];
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    for (const group of model.get("groups")) {
      const entries = group.entries.filter((entry) => {
        const text = `${group.title} ${entry.name} ${entry.detail}`.toLowerCase();
        return wanted.every((word) => text.includes(word));
      });
      if (!entries.length) continue;
      part(list, "div", "group", `${group.title} (${entries.length})`);
      for (const entry of entries) {
        const row = part(list, "div", "entry");
        row.id = `${id}-${shown.length}`;
        row.setAttribute("role", "option");
        row.setAttribute("aria-selected", String(entry.key === model.get("value")));
        part(row, "span", "name", entry.name);
        part(row, "span", "detail", entry.detail);
        row.addEventListener("pointerdown", (event) => { event.preventDefault(); choose(entry); });
        shown.push({ row, entry });
      }
    }
    if (!shown.length) part(list, "div", "none", "Nothing has all of these words.");
    list.hidden = false;
    field.setAttribute("aria-expanded", "true");
    mark(wanted.length ? 0 : shown.findIndex(({ entry }) => entry === chosen()));
  }

  field.addEventListener("focus", () => { field.select(); offer(""); });
  field.addEventListener("pointerdown", () => { if (list.hidden) offer(""); });
  field.addEventListener("input", () => offer(field.value));
  field.addEventListener("blur", close);
  field.addEventListener("keydown", (event) => {
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 };
    if (event.key in steps) list.hidden ? offer("") : mark(active + steps[event.key]);
    else if (event.key === "Enter" && shown[active] && !list.hidden) choose(shown[active].entry);
    else if (event.key === "Escape") { close(); field.blur(); }
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  model.on("change:groups change:value", close);
  close();
  if (!seen.has(model)) setTimeout(() => root.scrollIntoView({ block: "start" }), 400);
  seen.add(model);  // shown for the first time: the menu, not the end of the page
  return () => model.off("change:groups change:value", close);
}

export default { render };
