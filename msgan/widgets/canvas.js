// Pictures that fill the window. Clicks, slices and values go to Python; zoom, pan, swipe, full
// screen and saving happen here.

const STYLE = `
.msgan-canvas { width: 100%; box-sizing: border-box; font-size: 13px; line-height: 1.4;
  color: var(--jp-ui-font-color1, #111); background: var(--jp-layout-color0, #fff); }
.msgan-canvas [hidden] { display: none !important; }
.msgan-canvas:fullscreen { padding: 8px 12px; overflow: hidden; }
.msgan-canvas .tools, .msgan-canvas .keys { display: flex; flex-wrap: wrap; gap: 4px 6px;
  align-items: center; padding: 3px 0; }
.msgan-canvas button { height: 26px; min-width: 28px; padding: 0 8px; font: inherit;
  cursor: pointer; color: inherit; background: var(--jp-layout-color2, #eee); border-radius: 3px;
  border: 1px solid var(--jp-border-color2, #ccc); }
.msgan-canvas button[aria-pressed=true] { background: var(--jp-layout-color3, #bdbdbd); }
.msgan-canvas button:focus-visible { outline: 2px solid #56b4e9; }
.msgan-canvas .hint { flex: 1 1 0; min-width: 0; margin-left: 8px; overflow: hidden;
  white-space: nowrap; text-overflow: ellipsis; color: var(--jp-ui-font-color2, #555); }
.msgan-canvas .grid { position: relative; overflow: hidden; }
.msgan-canvas:fullscreen .grid { margin: 0 auto; }
.msgan-canvas figure { position: absolute; margin: 0; }
.msgan-canvas figcaption { height: 20px; overflow: hidden; white-space: nowrap;
  text-overflow: ellipsis; }
.msgan-canvas .pane { position: relative; overflow: hidden; background: #000; cursor: crosshair;
  touch-action: none; user-select: none; }
.msgan-canvas .pane:focus { outline: 2px solid #56b4e9; outline-offset: -2px; }
.msgan-canvas img { position: absolute; max-width: none; margin: 0; display: block;
  pointer-events: none; }
.msgan-canvas .line { position: absolute; background: #56b4e9; box-shadow: 0 0 1px 1px #0008;
  pointer-events: none; }
.msgan-canvas .side { position: absolute; color: #fff; font: bold 13px sans-serif;
  text-shadow: 0 0 2px #000, 0 0 3px #000; pointer-events: none; }
.msgan-canvas .brush { position: absolute; border: 1.5px solid #ece133; border-radius: 50%;
  box-shadow: 0 0 1px 1px #0008; transform: translate(-50%, -50%); pointer-events: none; }
.msgan-canvas .handle { position: absolute; top: 0; bottom: 0; width: 18px; margin-left: -9px;
  cursor: ew-resize; display: flex; justify-content: center; }
.msgan-canvas .handle::before { content: ""; width: 3px; background: #ece133;
  box-shadow: 0 0 2px #000; }
.msgan-canvas .keys { gap: 4px 22px; min-height: 20px; }
.msgan-canvas .bar, .msgan-canvas .entry { display: flex; gap: 6px; align-items: center; }
.msgan-canvas .ramp { width: 130px; height: 12px; border: 1px solid #888; }
.msgan-canvas .chip { width: 12px; height: 12px; box-sizing: border-box; border: 1px solid #888; }
.msgan-canvas .chip.outline { background: none !important; border: 2px solid; }
.msgan-canvas .told { min-height: 20px; font-variant-numeric: tabular-nums; }
.msgan-canvas .told span { display: inline-block; margin-right: 18px; }
`;
const KEYS = {
  ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10,
};
const HINT = "wheel: slice · Ctrl + wheel: zoom · Shift or right button + drag: move · "
  + "double click: whole picture";
const CAPTION = 20, GAP_X = 8, GAP_Y = 6, WHEEL = 60, FARTHEST = 24, FREE = 8;
const RAGGED = 0.8;  // what a picture is worth in rows of which the last is not full
const SHARE = 0.64;  // of the window's height, so that the controls stay in sight

// One message at a time: what is done while Python draws waits, and is joined where it can be.
function mailbox(model) {
  const queue = [];
  let waiting = false, timer = 0;
  function post() {
    clearTimeout(timer);
    waiting = queue.length > 0;
    if (!waiting) return;
    model.send(queue.shift());
    timer = setTimeout(post, 3000);  // a kernel that was restarted never answers
  }
  model.on("change:answered", post);
  return {
    send(message) {
      const last = queue.at(-1);
      if (last && last.kind === message.kind && last.picture === message.picture) {
        queue.pop();
        if (message.kind === "step") message.by += last.by;
      }
      queue.push(message);
      if (!waiting) post();
    },
    close() { clearTimeout(timer); model.off("change:answered", post); },
  };
}

function part(parent, tag, className = "", text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  parent.append(made);
  return made;
}

const clip = (value, low, high) => Math.min(Math.max(value, low), high);

// What is seen of the pictures: one zoom for all, and of each plane the place in the middle.
function camera(changed) {
  const middles = {};
  const self = {
    zoom: 1, divider: 50, smooth: false,
    middle: (plane) => middles[plane] ?? [0.5, 0.5],
    // From shares of the frame to shares of the picture, and back.
    inside: (plane, at) => at.map((v, i) => self.middle(plane)[i] + (v - 0.5) / self.zoom),
    seen: (plane, at) => at.map((v, i) => (v - self.middle(plane)[i]) * self.zoom + 0.5),
    look(plane, middle) {
      const half = 0.5 / self.zoom;
      middles[plane] = middle.map((v) => clip(v, half, 1 - half));
    },
    // What is at `at` of one plane stays there; others go on showing their crosshair.
    to(zoom, marks, plane = null, at = [0.5, 0.5]) {
      const still = plane === null ? null : self.inside(plane, at);
      const before = self.zoom;
      self.zoom = clip(zoom, 1, FARTHEST);
      for (const [name, mark] of Object.entries(marks)) {
        if (name === plane) self.look(name, still.map((v, i) => v - (at[i] - 0.5) / self.zoom));
        else self.look(name, before > 1 || !mark ? self.middle(name) : mark);
      }
      changed();
    },
  };
  return self;
}

function pane(grid, number, mail, view, scene, redraw) {
  const figure = part(grid, "figure");
  const caption = part(figure, "figcaption");
  const box = part(figure, "div", "pane");
  box.tabIndex = 0;
  box.setAttribute("role", "application");
  box.dataset.lmSuppressShortcuts = "true";  // else JupyterLab takes the arrow keys
  const images = [part(box, "img"), part(box, "img")];
  for (const img of images) img.draggable = false;
  const lines = [0, 1, 2, 3].map(() => part(box, "div", "line"));
  const sides = [
    "left:5px;top:calc(50% - 9px)", "right:5px;top:calc(50% - 9px)",
    "bottom:3px;left:calc(50% - 5px)", "top:3px;left:calc(50% - 5px)",
  ].map((style) => {
    const side = part(box, "div", "side");
    side.style.cssText = style;
    return side;
  });
  const brush = part(box, "div", "brush");
  const handle = part(box, "div", "handle");
  let pictures = [], width = 1, height = 1, wheel = 0, dragged = null, from = null;

  const plane = () => pictures[0].plane;
  function frame(event) {
    const place = box.getBoundingClientRect();
    return [
      clip((event.clientX - place.left) / place.width, 0, 1),
      clip((event.clientY - place.top) / place.height, 0, 1),
    ];
  }
  function point(kind, event) {
    const [right, down] = view.inside(plane(), frame(event));
    mail.send({ picture: number, kind, right, down });
  }
  const step = (by) => mail.send({ picture: number, kind: "step", by });

  box.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    box.focus({ preventScroll: true });
    box.setPointerCapture(event.pointerId);
    from = frame(event);
    dragged = event.button !== 0 || event.shiftKey ? "move"
      : event.target === handle ? "divider" : "point";
    if (dragged === "point") point("point", event);
  });
  box.addEventListener("pointermove", (event) => {
    const at = frame(event);
    Object.assign(brush.style, { left: `${100 * at[0]}%`, top: `${100 * at[1]}%` });
    if (dragged === "point") point("point", event);
    else if (dragged === "divider") { view.divider = 100 * at[0]; redraw(); }
    else if (dragged === "move") {
      const middle = view.middle(plane());
      view.look(plane(), middle.map((v, i) => v - (at[i] - from[i]) / view.zoom));
      from = at;
      redraw();
    } else point("hover", event);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    box.addEventListener(end, () => { dragged = null; });
  }
  box.addEventListener("pointerleave", () => mail.send({ picture: number, kind: "leave" }));
  box.addEventListener("dblclick", () => { if (!scene().brush) view.to(1, marksOf(scene())); });
  box.addEventListener("contextmenu", (event) => event.preventDefault());
  box.addEventListener("wheel", (event) => {
    if (!event.deltaY || (!plane() && !event.ctrlKey && !event.metaKey)) return;
    event.preventDefault();
    if (event.ctrlKey || event.metaKey) {
      const factor = Math.exp(-0.002 * event.deltaY);
      view.to(view.zoom * factor, marksOf(scene()), plane(), frame(event));
      return;
    }
    wheel += event.deltaMode ? WHEEL * Math.sign(event.deltaY) : event.deltaY;
    const by = Math.trunc(wheel / WHEEL);  // a touch pad sends many small ones
    if (by) step(clip(-by, -3, 3));
    wheel -= WHEEL * by;
  }, { passive: false });
  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key in KEYS) step(KEYS[event.key]);
    else if (event.key === "Home") mail.send({ picture: number, kind: "first" });
    else if (event.key === "End") mail.send({ picture: number, kind: "last" });
    else if (event.key === "+") view.to(1.25 * view.zoom, marksOf(scene()));
    else if (event.key === "-") view.to(view.zoom / 1.25, marksOf(scene()));
    else if (event.key === "0") view.to(1, marksOf(scene()));
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  // A picture's image, replaced only where the file is another.
  function load(img, picture) {
    if (img.dataset.key === String(picture.key)) return;
    const url = URL.createObjectURL(new Blob([picture.png], { type: "image/png" }));
    img.onload = () => { URL.revokeObjectURL(url); place(); };
    img.dataset.key = String(picture.key);
    img.src = url;
  }
  const crossed = () => {
    const { mark } = pictures[0];
    return strokes(mark && view.seen(plane(), mark), width, height);
  };
  // Where the divider is, as a share of the picture.
  const divide = () => view.inside(plane(), [view.divider / 100, 0])[0];
  function place() {
    const [x0, y0] = view.seen(plane(), [0, 0]), zoom = view.zoom;
    images.forEach((img) => {
      Object.assign(img.style, {
        left: `${x0 * width}px`, top: `${y0 * height}px`,
        width: `${zoom * width}px`, height: `${zoom * height}px`,
      });
      // Single voxels stay visible; a picture shown smaller than it is would lose lines.
      const larger = img.naturalWidth < zoom * width * devicePixelRatio;
      img.style.imageRendering = larger && !view.smooth ? "pixelated" : "auto";
    });
    images[1].style.clipPath = `inset(0 0 0 ${100 * clip(divide(), 0, 1)}%)`;
    handle.style.left = `${view.divider}%`;
    crossed().forEach((at, i) => {
      lines[i].hidden = !at;
      const [left, top, wide, high] = at || [0, 0, 0, 0];
      const style = { left: `${left}px`, top: `${top}px`, width: `${wide}px`, height: `${high}px` };
      Object.assign(lines[i].style, style);
    });
    const size = 2 * scene().brush * zoom * width / pictures[0].size[0];
    Object.assign(brush.style, { width: `${size}px`, height: `${size}px` });
    brush.hidden = !size || !box.matches(":hover");
    box.style.cursor = size ? "none" : "";
  }
  return {
    remove() { figure.remove(); },
    show(shown, scale, [left, top]) {
      pictures = shown;
      Object.assign(figure.style, { left: `${left}px`, top: `${top}px` });
      [width, height] = shown[0].size.map((mm) => Math.max(8, Math.floor(mm * scale)));
      caption.textContent = shown.map((p) => p.title).join("  |  ");
      caption.title = caption.textContent;
      caption.style.width = `${width}px`;
      box.setAttribute("aria-label", shown.map((p) => p.label).join("; "));
      Object.assign(box.style, { width: `${width}px`, height: `${height}px` });
      for (const extra of [images[1], handle]) extra.hidden = shown.length < 2;
      shown.forEach((picture, i) => load(images[i], picture));
      sides.forEach((side, i) => { side.textContent = shown[0].sides[i] ?? ""; });
      place();
    },
    place,
    // The same on a canvas, to be saved.
    paint(pen, left, top) {
      pen.fillStyle = "#000";
      pen.fillText(caption.textContent, left, top + 14, width);
      pen.save();
      pen.translate(left, top + CAPTION);
      pen.beginPath();
      pen.rect(0, 0, width, height);
      pen.clip();
      pen.fillRect(0, 0, width, height);
      pictures.forEach((_, i) => {
        const [x0, y0] = view.seen(plane(), [0, 0]);
        pen.imageSmoothingEnabled = images[i].style.imageRendering === "auto";
        if (i) {
          pen.beginPath();
          pen.rect(width * view.divider / 100, 0, width, height);
          pen.clip();
        }
        const place = [x0 * width, y0 * height, view.zoom * width, view.zoom * height];
        pen.drawImage(images[i], ...place);
      });
      pen.fillStyle = "#56b4e9";
      for (const at of crossed()) if (at) pen.fillRect(...at);
      pen.restore();
      const places = [[5, height / 2 + 5], [width - 15, height / 2 + 5],
        [width / 2 - 5, height - 5], [width / 2 - 5, 14]];
      pen.fillStyle = "#fff";
      places.forEach(([x, y], i) => {
        pen.fillText(pictures[0].sides[i] ?? "", left + x, top + CAPTION + y);
      });
    },
    bounds() { return [figure.offsetLeft, figure.offsetTop, width, height + CAPTION]; },
  };
}

// Four lines that leave the voxel under the crosshair free: left, top, width, height in pixels.
function strokes(mark, width, height) {
  if (!mark) return [null, null, null, null];
  const x = Math.round(mark[0] * width), y = Math.round(mark[1] * height);
  const across = y >= 0 && y < height, down = x >= 0 && x < width;
  const before = [clip(x - FREE, 0, width), clip(y - FREE, 0, height)];
  const after = [clip(x + FREE, 0, width), clip(y + FREE, 0, height)];
  return [
    across && [0, y, before[0], 1], across && [after[0], y, width - after[0], 1],
    down && [x, 0, 1, before[1]], down && [x, after[1], 1, height - after[1]],
  ];
}

function marksOf({ pictures }) {
  return Object.fromEntries(pictures.map((picture) => [picture.plane, picture.mark]));
}

// Where pictures lie so that they are largest: those that belong together in a row, in a column, or
// the first beside the others; and how large a millimetre is then.
function arranged(sizes, together, width, room) {
  const all = [...Array(together).keys()], count = sizes.length / together;
  const blocks = [all.map((i) => [i]), [all], [[0], all.slice(1)]].slice(0, together > 2 ? 3 : 2);
  const sum = (values) => values.reduce((a, b) => a + b, 0);
  let best = { worth: 0 };
  for (const block of blocks) {
    const wide = block.map((column) => Math.max(...column.map((i) => sizes[i][0])));
    const high = Math.max(...block.map((column) => sum(column.map((i) => sizes[i][1]))));
    const deep = Math.max(...block.map((column) => column.length));
    for (let across = 1; across <= count; across++) {
      const down = Math.ceil(count / across);
      const scale = Math.min(
        (width - GAP_X * (across * block.length - 1)) / (across * sum(wide)),
        (room - (CAPTION + GAP_Y) * down * deep) / (down * high),
      );
      const worth = count % across ? RAGGED * scale : scale;
      if (worth > best.worth) best = { worth, scale, block, wide, high, deep, across };
    }
  }
  const { scale, block, wide, high, deep, across } = best, places = [];
  const blockWidth = sum(wide) * scale + GAP_X * block.length;
  const blockHeight = high * scale + (CAPTION + GAP_Y) * deep;
  for (let k = 0; k < count; k++) {
    let left = (k % across) * blockWidth;
    for (const [c, column] of block.entries()) {
      let top = Math.floor(k / across) * blockHeight;
      for (const i of column) {
        places[k * together + i] = [Math.round(left), Math.round(top)];
        top += sizes[i][1] * scale + CAPTION + GAP_Y;
      }
      left += wide[c] * scale + GAP_X;
    }
  }
  const whole = [across * blockWidth - GAP_X, Math.ceil(count / across) * blockHeight - GAP_Y];
  return { scale, places, whole };
}

function render({ model, el }) {
  part(el, "style", "", STYLE);
  el.style.width = "100%";
  const root = part(el, "div", "msgan-canvas");
  const tools = part(root, "div", "tools"), grid = part(root, "div", "grid");
  const keys = part(root, "div", "keys"), told = part(root, "div", "told");
  const mail = mailbox(model), scene = () => model.get("scene");
  const view = camera(() => place());
  let panes = [];

  function button(text, title, act) {
    const made = part(tools, "button", "", text);
    made.title = title;
    made.setAttribute("aria-label", title);
    made.addEventListener("click", act);
    return made;
  }
  button("−", "zoom out", () => view.to(view.zoom / 1.25, marksOf(scene())));
  const level = button("100 %", "show the whole picture", () => view.to(1, marksOf(scene())));
  button("+", "zoom in", () => view.to(1.25 * view.zoom, marksOf(scene())));
  const smooth = button("smooth", "interpolate between voxels", () => {
    view.smooth = !view.smooth;
    place();
  });
  const flip = button("radiological", "show the left of the body on the right",
    () => mail.send({ picture: 0, kind: "flip" }));
  button("full screen", "pictures alone on the whole screen; Esc ends it", () => {
    if (document.fullscreenElement) document.exitFullscreen();
    else root.requestFullscreen();
  });
  button("save PNG", "save what is seen as a picture", save);
  const divider = part(tools, "input");
  Object.assign(divider, { type: "range", min: 0, max: 100, step: 1 });
  divider.dataset.lmSuppressShortcuts = "true";
  divider.title = "divider of the two pictures";
  divider.setAttribute("aria-label", divider.title);
  divider.addEventListener("input", () => { view.divider = Number(divider.value); place(); });
  part(tools, "span", "hint", HINT).title = `${HINT} · arrow and page keys, Home, End: slice`;
  root.addEventListener("contextmenu", (event) => event.stopPropagation());  // of JupyterLab's cell

  function place() {
    level.textContent = `${Math.round(100 * view.zoom)} %`;
    smooth.setAttribute("aria-pressed", String(view.smooth));
    divider.value = view.divider;
    for (const one of panes) one.place();
  }
  function draw() {
    const { pictures, swipe, together, bars, legend, radiological } = scene();
    const groups = swipe ? pictures.flatMap((p, i) => (i % 2 ? [] : [[p, pictures[i + 1]]]))
      : pictures.map((picture) => [picture]);
    while (panes.length > groups.length) panes.pop().remove();
    while (panes.length < groups.length) {
      panes.push(pane(grid, panes.length, mail, view, scene, place));
    }
    divider.hidden = !swipe;
    flip.hidden = radiological === null;
    flip.setAttribute("aria-pressed", String(Boolean(radiological)));
    keys.replaceChildren();
    for (const bar of bars) {
      const line = part(keys, "div", "bar");
      part(line, "span", "", `${bar.title}: ${bar.low}`);
      part(line, "span", "ramp").style.background =
        `linear-gradient(to right, ${bar.colours.join(", ")})`;
      part(line, "span", "", bar.high);
    }
    for (const { name, colour, outline } of legend) {
      const line = part(keys, "div", "entry");
      const chip = part(line, "span", outline ? "chip outline" : "chip");
      chip.style[outline ? "borderColor" : "background"] = colour;
      part(line, "span", "", name);
    }
    keys.hidden = !keys.childElementCount;
    const full = document.fullscreenElement === root;
    const room = full ? innerHeight - 24 - tools.offsetHeight - keys.offsetHeight
      - told.offsetHeight : Math.max(300, SHARE * innerHeight);
    const width = root.clientWidth - (full ? 24 : 0);
    if (!width || !groups.length) return;  // in a tab that is not shown
    const sizes = groups.map(([first]) => first.size);
    const { scale, places, whole } = arranged(sizes, together, width, room);
    Object.assign(grid.style, { width: `${whole[0]}px`, height: `${whole[1]}px` });
    panes.forEach((one, i) => one.show(groups[i], scale, places[i]));
    place();
  }
  function tell() {
    told.replaceChildren(...model.get("told").split("; ").map((words) => {
      const span = document.createElement("span");
      span.textContent = words;
      return span;
    }));
  }
  function save() {
    const paper = document.createElement("canvas"), pen = paper.getContext("2d");
    const boxes = panes.map((one) => one.bounds());
    const left = Math.min(...boxes.map((b) => b[0])), top = Math.min(...boxes.map((b) => b[1]));
    const width = Math.max(...boxes.map((b) => b[0] + b[2])) - left;
    const height = Math.max(...boxes.map((b) => b[1] + b[3])) - top;
    const entries = [...keys.children], foot = 24 * entries.length;
    paper.width = (width + 16) * devicePixelRatio;
    paper.height = (height + foot + 16) * devicePixelRatio;
    pen.scale(devicePixelRatio, devicePixelRatio);
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, paper.width, paper.height);
    pen.font = "13px sans-serif";
    panes.forEach((one, i) => one.paint(pen, boxes[i][0] - left + 8, boxes[i][1] - top + 8));
    const { bars, legend } = scene();
    let y = height + 12;
    for (const bar of bars) {
      pen.fillStyle = "#000";
      pen.fillText(`${bar.title}: ${bar.low}`, 8, y + 14);
      const start = 16 + pen.measureText(`${bar.title}: ${bar.low}`).width;
      const ramp = pen.createLinearGradient(start, 0, start + 130, 0);
      bar.colours.forEach((colour, i) => ramp.addColorStop(i / (bar.colours.length - 1), colour));
      pen.fillText(bar.high, start + 138, y + 14);
      pen.fillStyle = ramp;
      pen.fillRect(start, y + 3, 130, 12);
      y += 24;
    }
    for (const { name, colour } of legend) {
      pen.fillStyle = colour;
      pen.fillRect(8, y + 3, 12, 12);
      pen.fillStyle = "#000";
      pen.fillText(name, 26, y + 14);
      y += 24;
    }
    paper.toBlob((blob) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = "msgan_view.png";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  }

  let width = 0;
  const sized = new ResizeObserver(() => {
    if (width !== root.clientWidth) draw();
    width = root.clientWidth;
  });
  sized.observe(root);
  document.addEventListener("fullscreenchange", draw);
  addEventListener("resize", draw);
  model.on("change:scene", draw);
  model.on("change:told", tell);
  draw();
  tell();
  return () => {
    model.off("change:scene", draw);
    model.off("change:told", tell);
    document.removeEventListener("fullscreenchange", draw);
    removeEventListener("resize", draw);
    sized.disconnect();
    mail.close();
  };
}

export default { render };
