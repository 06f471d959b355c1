// Grid of images. Only the rows in view are in the document.

const GAP = 6, SPARE = 2, WIDTHS = [56, 78, 104, 140, 190];
const grid = { items: [], active: 0, anchor: 0, base: new Set(), nodes: new Map(), columns: 1, cell: 78, top: 0, size: 1 };
const selected = new Set();

const scroller = () => $("pictures").closest("[data-scroll]");

// Shows the images of the view; with `keep`, the place in the list stays.
function showPictures(keep = false) {
  grid.items = listed();
  const [title, note] = headline();
  $("pictures-title").replaceChildren(`${title} `, el("small", {}, [images(grid.items.length), note].filter(Boolean).join(", ")));
  $("order").hidden = view.kind === "similar";
  $("grid").setAttribute("aria-label", `${title}, ${images(grid.items.length)}`);
  $("grid").hidden = !grid.items.length;
  $("empty").hidden = grid.items.length > 0;
  $("select-all").disabled = !grid.items.length;
  grid.active = keep ? Math.min(grid.active, Math.max(0, grid.items.length - 1)) : 0;
  grid.anchor = grid.active;
  const here = new Set(grid.items);
  for (const index of selected) if (!here.has(index)) selected.delete(index);
  clearNodes();
  layOut();
  showSelection();
}

function clearNodes() {
  for (const node of grid.nodes.values()) node.remove();
  grid.nodes.clear();
}

function layOut() {
  const box = $("grid"), wide = box.clientWidth;
  if (!wide || !grid.items.length) return;
  grid.columns = Math.max(1, Math.floor((wide + GAP) / (WIDTHS[grid.size] + GAP)));
  grid.cell = (wide - GAP * (grid.columns - 1)) / grid.columns;
  box.style.height = `${Math.ceil(grid.items.length / grid.columns) * (grid.cell + GAP)}px`;
  const outer = scroller();
  grid.top = box.getBoundingClientRect().top - outer.getBoundingClientRect().top + outer.scrollTop;
  for (const [place, node] of grid.nodes) setPlace(node, place);
  drawGrid();
}

function rowsInView() {
  const outer = scroller(), step = grid.cell + GAP;
  const from = Math.floor((outer.scrollTop - grid.top) / step) - SPARE;
  const to = Math.ceil((outer.scrollTop + outer.clientHeight - grid.top) / step) + SPARE;
  return [Math.max(0, from) * grid.columns, Math.min(grid.items.length, Math.max(0, to) * grid.columns)];
}

function drawGrid() {
  if (!grid.items.length) return;
  const [from, to] = rowsInView();
  for (const [place, node] of grid.nodes) {
    if ((place >= from && place < to) || place === grid.active) continue;
    node.remove();
    grid.nodes.delete(place);
  }
  const fresh = [];
  for (let place = from; place < to; place++) if (!grid.nodes.has(place)) fresh.push(makeThumb(place));
  if (!grid.nodes.has(grid.active)) fresh.push(makeThumb(grid.active));
  $("grid").append(...fresh);
  $("grid").setAttribute("aria-activedescendant", `at-${grid.active}`);
}

function setPlace(node, place) {
  const step = grid.cell + GAP;
  node.style.width = node.style.height = `${grid.cell}px`;
  node.style.transform = `translate(${(place % grid.columns) * step}px, ${Math.floor(place / grid.columns) * step}px)`;
}

function makeThumb(place) {
  const index = grid.items[place], text = markOf(index);
  const node = el("div", { class: place === grid.active ? "thumb active" : "thumb", role: "option", id: `at-${place}`,
    "data-image": index, "aria-selected": String(selected.has(index)), "aria-setsize": grid.items.length, "aria-posinset": place + 1,
    "aria-label": [fileName(index), text].filter(Boolean).join(", "),
    title: `${D.images[index].id}\nconfidence ${percent(D.images[index].confidence)}` },
  thumbnail(index), text ? el("span", { class: "mark" }, text) : null);
  setPlace(node, place);
  grid.nodes.set(place, node);
  return node;
}

// Text below a picture: how its class differs from that of the view.
function markOf(index) {
  const target = targetOf(index), base = baseOf(target);
  if (view.kind === "disputed") return `${D.known[D.images[index].disputed]}?`;
  if (view.kind === "class" && classOf(index) !== view.id) return `from ${nameOf(classOf(index))}`;
  if (view.kind === "class" && base === view.id && target.includes("."))
    return view.part === null ? `part ${Number(target.split(".")[1]) + 1}` : "";
  if (view.kind === "class") return moved.has(index) ? "moved" : "";
  return target === "out" ? "no class" : targetName(target);
}

// --- selection and movement in the grid ------------------------------------------------------------

function markSelected() {
  for (const [place, node] of grid.nodes) {
    node.setAttribute("aria-selected", String(selected.has(grid.items[place])));
    node.classList.toggle("active", place === grid.active);
  }
  $("grid").setAttribute("aria-activedescendant", `at-${grid.active}`);
  showSelection();
}

function toggle(place) {
  const index = grid.items[place];
  selected.has(index) ? selected.delete(index) : selected.add(index);
  [grid.active, grid.anchor, grid.base] = [place, place, new Set(selected)];
  drawGrid();
  markSelected();
}

// Selects from the last chosen image to this one, and keeps what was selected before.
function extend(place) {
  const [from, to] = [Math.min(grid.anchor, place), Math.max(grid.anchor, place)];
  selected.clear();
  for (const index of grid.base) selected.add(index);
  for (let n = from; n <= to; n++) selected.add(grid.items[n]);
  grid.active = place;
  drawGrid();
  markSelected();
}

function selectAll() {
  for (const index of grid.items) selected.add(index);
  grid.base = new Set(selected);
  markSelected();
}

function clearSelection() {
  selected.clear();
  grid.base = new Set();
  markSelected();
}

function goTo(place, ranged = false) {
  const next = Math.min(grid.items.length - 1, Math.max(0, place));
  if (ranged) extend(next);
  else {
    [grid.active, grid.anchor, grid.base] = [next, next, new Set(selected)];
    drawGrid();
    markSelected();
  }
  keepInView(next);
}

function keepInView(place) {
  const outer = scroller(), step = grid.cell + GAP;
  const top = grid.top + Math.floor(place / grid.columns) * step;
  if (top < outer.scrollTop) outer.scrollTop = top - GAP;
  else if (top + step > outer.scrollTop + outer.clientHeight - 60) outer.scrollTop = top + step - outer.clientHeight + 60;
}

function resize(by) {
  const next = Math.min(WIDTHS.length - 1, Math.max(0, grid.size + by));
  if (next === grid.size) return;
  grid.size = next;
  layOut();
  keepInView(grid.active);
}

function gridKey(event) {
  const page = Math.max(1, Math.floor(scroller().clientHeight / (grid.cell + GAP)) - 1) * grid.columns;
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: grid.columns, ArrowUp: -grid.columns, PageDown: page, PageUp: -page,
    Home: -grid.items.length, End: grid.items.length };
  if (event.key in steps) goTo(grid.active + steps[event.key], event.shiftKey);
  else if (event.key === " ") toggle(grid.active);
  else if (event.key === "Enter") enlarge(grid.active);
  else return false;
  return true;
}

function placeOf(event) {
  const node = event.target.closest(".thumb");
  return node ? Number(node.id.slice(3)) : null;
}

function startGrid() {
  $("grid").addEventListener("click", (event) => {
    const place = placeOf(event);
    if (place !== null) event.shiftKey ? extend(place) : toggle(place);
  });
  $("grid").addEventListener("dblclick", (event) => {
    const place = placeOf(event);
    if (place !== null) enlarge(place);
  });
  for (const outer of document.querySelectorAll("[data-scroll]")) outer.addEventListener("scroll", once(drawGrid), { passive: true });
  new ResizeObserver(once(layOut)).observe($("pictures"));
  $("order").replaceChildren(...Object.entries(orders).map(([value, [text]]) => el("option", { value }, text)));
  $("order").addEventListener("change", () => showPictures());
  $("select-all").addEventListener("click", selectAll);
  $("smaller").addEventListener("click", () => resize(-1));
  $("larger").addEventListener("click", () => resize(1));
}
