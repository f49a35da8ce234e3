// Pictures that report clicks, drags, wheel and keys; the swipe is drawn here, without Python.

const STYLE = `
.msgan-canvas { display: flex; flex-wrap: wrap; gap: 12px; align-items: flex-end; padding: 4px; }
.msgan-canvas figure { margin: 0; min-width: 0; }
.msgan-canvas figcaption { font-size: 13px; line-height: 1.4;
  color: var(--jp-content-font-color1, inherit); }
.msgan-canvas .pane { position: relative; overflow: hidden; background: #000; cursor: crosshair;
  touch-action: none; user-select: none; max-width: 100%; }
.msgan-canvas .pane:focus { outline: 3px solid #56b4e9; outline-offset: 1px; }
.msgan-canvas img { position: absolute; inset: 0; width: 100%; height: 100%; max-width: none;
  margin: 0; display: block; pointer-events: none; }
.msgan-canvas .line { position: absolute; background: #56b4e9; box-shadow: 0 0 1px 1px #0008;
  pointer-events: none; }
.msgan-canvas .side { position: absolute; color: #fff; font: bold 12px sans-serif;
  text-shadow: 0 0 2px #000, 0 0 3px #000; pointer-events: none; }
.msgan-canvas .handle { position: absolute; top: 0; bottom: 0; width: 18px; margin-left: -9px;
  cursor: ew-resize; display: flex; justify-content: center; }
.msgan-canvas .handle::before { content: ""; width: 3px; background: #ece133;
  box-shadow: 0 0 2px #000; }
.msgan-canvas .swipe { display: block; margin: 6px 0 0; }
`;
const KEYS = {
  ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10,
};

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

function part(className, parent, tag = "div") {
  const made = document.createElement(tag);
  made.className = className;
  parent.append(made);
  return made;
}

// A picture's image, replaced only where the file is another.
function painted(img, picture) {
  if (img.dataset.key === String(picture.key)) return;
  const url = URL.createObjectURL(new Blob([picture.png], { type: "image/png" }));
  img.onload = () => {
    URL.revokeObjectURL(url);
    // Single voxels stay visible; a picture shown smaller than it is would lose lines.
    img.style.imageRendering = img.naturalWidth < img.clientWidth ? "pixelated" : "auto";
  };
  img.dataset.key = String(picture.key);
  img.src = url;
}

// Four lines that leave the voxel under the crosshair free.
function crossed(lines, mark) {
  for (const line of lines) line.hidden = !mark;
  if (!mark) return;
  const x = `${100 * mark[0]}%`, y = `${100 * mark[1]}%`;
  const places = [
    { left: "0", width: `calc(${x} - 8px)`, top: y, height: "1px" },
    { left: `calc(${x} + 8px)`, right: "0", top: y, height: "1px" },
    { left: x, width: "1px", top: "0", height: `calc(${y} - 8px)` },
    { left: x, width: "1px", top: `calc(${y} + 8px)`, bottom: "0" },
  ];
  places.forEach((place, i) => Object.assign(lines[i].style, place));
}

function pane(root, number, mail) {
  const figure = part("", root, "figure");
  const caption = part("", figure, "figcaption");
  const box = part("pane", figure);
  box.tabIndex = 0;
  box.setAttribute("role", "application");
  box.title = "Click or drag: crosshair. Arrow keys, Page, Home, End, wheel: slice.";
  box.dataset.lmSuppressShortcuts = "true";  // else JupyterLab takes the arrow keys
  const images = [part("", box, "img"), part("", box, "img")];
  for (const img of images) img.draggable = false;
  const lines = [0, 1, 2, 3].map(() => part("line", box));
  const sides = [
    "left:4px;top:calc(50% - 8px)", "right:4px;top:calc(50% - 8px)",
    "bottom:2px;left:calc(50% - 5px)", "top:2px;left:calc(50% - 5px)",
  ].map((style) => { const side = part("side", box); side.style.cssText = style; return side; });
  const handle = part("handle", box);
  const slider = part("swipe", figure, "input");
  Object.assign(slider, { type: "range", min: 0, max: 100, step: 1, value: 50 });
  slider.dataset.lmSuppressShortcuts = "true";
  slider.setAttribute("aria-label", "divider of the two pictures");
  let swipe = false;

  function share(event) {
    const frame = box.getBoundingClientRect();
    const clip = (v) => Math.min(Math.max(v, 0), 1);
    return [
      clip((event.clientX - frame.left) / frame.width),
      clip((event.clientY - frame.top) / frame.height),
    ];
  }
  function divide() {
    images[1].style.clipPath = swipe ? `inset(0 0 0 ${slider.value}%)` : "none";
    handle.style.left = `${slider.value}%`;
  }
  function step(by) { mail.send({ picture: number, kind: "step", by }); }

  slider.addEventListener("input", divide);
  let dragged = null;
  box.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    box.focus();
    box.setPointerCapture(event.pointerId);
    dragged = event.target === handle ? "handle" : "point";
    moved(event);
  });
  function moved(event) {
    if (!dragged) return;
    const [right, down] = share(event);
    if (dragged === "handle") { slider.value = 100 * right; divide(); }
    else mail.send({ picture: number, kind: "point", right, down });
  }
  box.addEventListener("pointermove", moved);
  for (const end of ["pointerup", "pointercancel"]) {
    box.addEventListener(end, () => { dragged = null; });
  }
  box.addEventListener("wheel", (event) => {
    if (document.activeElement !== box || !event.deltaY) return;  // else the page scrolls
    event.preventDefault();
    step(event.deltaY < 0 ? 1 : -1);
  }, { passive: false });
  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target !== box) return;
    if (event.key in KEYS) step(KEYS[event.key]);
    else if (event.key === "Home") mail.send({ picture: number, kind: "first" });
    else if (event.key === "End") mail.send({ picture: number, kind: "last" });
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  return {
    remove() { figure.remove(); },
    draw(pictures) {
      const [first, second] = pictures;
      swipe = pictures.length === 2;
      caption.textContent = pictures.map((p) => p.title).join("  |  ");
      box.setAttribute("aria-label", pictures.map((p) => p.label).join("; "));
      box.style.width = `${first.size[0]}px`;
      box.style.aspectRatio = `${first.size[0]} / ${first.size[1]}`;
      slider.style.width = `${first.size[0]}px`;
      painted(images[0], first);
      if (swipe) painted(images[1], second);
      for (const extra of [images[1], handle, slider]) extra.style.display = swipe ? "" : "none";
      divide();
      crossed(lines, first.mark);
      sides.forEach((side, i) => { side.textContent = first.sides[i] ?? ""; });
    },
  };
}

function render({ model, el }) {
  const style = part("", el, "style");
  style.textContent = STYLE;
  const root = part("msgan-canvas", el);
  const mail = mailbox(model);
  let panes = [];
  function draw() {
    const { pictures, swipe } = model.get("scene");
    const groups = swipe ? [pictures] : pictures.map((picture) => [picture]);
    while (panes.length > groups.length) panes.pop().remove();
    while (panes.length < groups.length) panes.push(pane(root, panes.length, mail));
    panes.forEach((one, i) => one.draw(groups[i]));
  }
  model.on("change:scene", draw);
  draw();
  return () => { model.off("change:scene", draw); mail.close(); };
}

export default { render };
