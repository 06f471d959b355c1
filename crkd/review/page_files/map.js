// Map of the features: points, legend, region, and the picture under the pointer.

const RADIUS = 12, FULL_TURN = 2 * Math.PI;
let region = null; // corners of the chosen region in the coordinates of the map
let drawn = null; // corners of the region that is being drawn
let lastPoint = null; // image of the chosen point
let hovered = null;
let circle = 0; // radius of a region that was made by keys
const shownClasses = new Set(); // class ids, or null for no class; empty shows all

const range = (axis) => D.images.reduce(([low, high], { at }) => [Math.min(low, at[axis]), Math.max(high, at[axis])], [Infinity, -Infinity]);
const [xs, ys] = [range(0), range(1)];

function frame() {
  const { width: wide, height: high } = $("plane").getBoundingClientRect();
  const scale = Math.min((wide - 40) / (xs[1] - xs[0] || 1), (high - 40) / (ys[1] - ys[0] || 1));
  const middle = [(xs[0] + xs[1]) / 2, (ys[0] + ys[1]) / 2];
  return { wide, high,
    to: ([x, y]) => [wide / 2 + scale * (x - middle[0]), high / 2 - scale * (y - middle[1])],
    from: ([x, y]) => [(x - wide / 2) / scale + middle[0], (high / 2 - y) / scale + middle[1]] };
}

const mapClass = (index) => baseOf(targetOf(index));
const isShown = (index) => !shownClasses.size || shownClasses.has(mapClass(index));

function contains(corners, [x, y]) {
  let inside = false;
  for (let n = 0, last = corners.length - 1; n < corners.length; last = n++) {
    const [[ax, ay], [bx, by]] = [corners[n], corners[last]];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  }
  return inside;
}

const imagesOfMap = () => every((index) => isShown(index) && (!region || contains(region, D.images[index].at)));

function pen(id, { wide, high }) {
  const canvas = $(id), ratio = devicePixelRatio || 1;
  canvas.width = wide * ratio;
  canvas.height = high * ratio;
  const made = canvas.getContext("2d");
  made.scale(ratio, ratio);
  return made;
}

function drawMap() {
  const view_of = frame(), draw = pen("plane", view_of);
  const size = D.images.length > 20000 ? 2 : D.images.length > 3000 ? 3 : 5;
  const groups = new Map();
  for (let index = 0; index < D.images.length; index++) {
    const id = isShown(index) ? mapClass(index) : "hidden";
    groups.has(id) ? groups.get(id).push(index) : groups.set(id, [index]);
  }
  const dots = (list, style) => {
    draw.fillStyle = style;
    for (const index of list) {
      const [x, y] = view_of.to(D.images[index].at);
      draw.fillRect(x - size / 2, y - size / 2, size, size);
    }
  };
  const faint = getComputedStyle(document.documentElement).getPropertyValue("--line");
  dots(groups.get("hidden") ?? [], faint);
  for (const [id, list] of groups) if (id !== "hidden") dots(list, color(id, 0.8));
  drawOver();
  showLegend();
}

// The region, the chosen point and the point under the pointer are drawn above the points.
function drawOver() {
  const view_of = frame(), draw = pen("over", view_of);
  draw.strokeStyle = getComputedStyle(document.body).color;
  draw.lineWidth = 1.5;
  const corners = drawn ?? region;
  if (corners) {
    draw.beginPath();
    corners.forEach((corner, n) => (n ? draw.lineTo(...view_of.to(corner)) : draw.moveTo(...view_of.to(corner))));
    draw.closePath();
    draw.fillStyle = "rgb(128 128 128 / 0.14)";
    draw.fill();
    draw.stroke();
  }
  for (const index of [lastPoint, hovered]) {
    if (index === null) continue;
    draw.beginPath();
    draw.arc(...view_of.to(D.images[index].at), 8, 0, FULL_TURN);
    draw.stroke();
  }
}

function showLegend() {
  const ids = [...D.classes.map(({ id }) => id).filter((id) => sizeOf(id) || shownSize(id)), ...D.known.map((_, id) => id).filter((id) => sizeOf(id)),
    ...(sizeOf("out") ? [null] : [])];
  const pressed = (id) => String(shownClasses.has(id));
  $("legend").replaceChildren(...ids.map((id) => el("button", { "aria-pressed": pressed(id), onclick: () => {
    shownClasses.has(id) ? shownClasses.delete(id) : shownClasses.add(id);
    filterMap();
    $("legend").children[ids.indexOf(id)]?.focus();
  } }, swatch(id), el("span", { class: "name" }, id === null ? "no class" : nameOf(id)),
  el("small", {}, count(id === null ? sizeOf("out") : id < known ? sizeOf(id) : shownSize(id))))));
  $("map-reset").disabled = !region && !shownClasses.size;
}

// Applies the region and the classes of the legend to map and grid.
function filterMap() {
  drawMap();
  show({ kind: "map" });
}

function resetMap() {
  shownClasses.clear();
  [region, circle, lastPoint] = [null, 0, null];
  showPoint(null);
  filterMap();
}

// Returns the image of the nearest shown point within a few pixels, or null.
function pointAt(x, y) {
  const { to } = frame();
  let best = null, least = RADIUS ** 2;
  for (let index = 0; index < D.images.length; index++) {
    const [px, py] = to(D.images[index].at);
    const distance = (px - x) ** 2 + (py - y) ** 2;
    if (distance < least && isShown(index)) [best, least] = [index, distance];
  }
  return best;
}

function showPoint(index) {
  $("point").hidden = index === null;
  if (index === null) {
    $("point").replaceChildren();
    return;
  }
  const target = targetOf(index);
  $("point").replaceChildren(el("div", { class: "shown" }, thumbnail(index)),
    el("p", {}, swatch(baseOf(target)), el("strong", {}, targetName(target))),
    el("p", { class: "soft" }, `${fileName(index)}, confidence ${percent(D.images[index].confidence)}`));
  const [x, y] = frame().to(D.images[index].at), { wide, high } = frame();
  $("point").style.left = `${Math.min(x + 14, wide - 170)}px`;
  $("point").style.top = `${Math.min(y + 14, high - 190)}px`;
}

function pick(index) {
  lastPoint = index;
  if (index !== null && found.has(mapClass(index))) current = mapClass(index);
  showPoint(index);
  drawOver();
  if (index === null) return;
  const place = grid.items.indexOf(index);
  if (place >= 0) goTo(place);
}

function mapKey(event) {
  const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (event.key === "Enter" && lastPoint !== null) {
    enlarge(Math.max(0, grid.items.indexOf(lastPoint)));
    return true;
  }
  if (!by) return false;
  const own = every((index) => isShown(index) && (shownClasses.size > 0 || mapClass(index) === current));
  if (!event.shiftKey) {
    if (own.length) pick(own[(own.indexOf(lastPoint) + by + own.length) % own.length]);
    return true;
  }
  if (lastPoint === null) return true;
  circle = Math.max(0, circle + (0.03 * by * (event.key.endsWith("Up") || event.key.endsWith("Down") ? -1 : 1)));
  const [x, y] = D.images[lastPoint].at;
  region = circle ? Array.from({ length: 32 }, (_, n) => [x + circle * Math.cos((n / 32) * FULL_TURN), y + circle * Math.sin((n / 32) * FULL_TURN)]) : null;
  filterMap();
  return true;
}

function startMap() {
  const canvas = $("plane");
  const placeIn = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const hover = (event) => {
    const index = pointAt(...placeIn(event));
    if (index === hovered) return;
    hovered = index;
    showPoint(index ?? lastPoint);
    drawOver();
  };
  let start = null;
  canvas.addEventListener("pointerdown", (event) => {
    start = placeIn(event);
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!start) return hover(event);
    const here = placeIn(event), { from } = frame();
    if (!drawn && Math.hypot(here[0] - start[0], here[1] - start[1]) < 5) return;
    // A free line; with Shift a rectangle.
    if (event.shiftKey) drawn = [start, [here[0], start[1]], here, [start[0], here[1]]].map(from);
    else drawn = [...(drawn ?? [from(start)]), from(here)];
    drawOver();
  });
  canvas.addEventListener("pointerup", (event) => {
    if (drawn) [region, circle] = [drawn, 0];
    else pick(pointAt(...placeIn(event)));
    const filtered = Boolean(drawn);
    [start, drawn] = [null, null];
    if (filtered) filterMap();
  });
  canvas.addEventListener("pointercancel", () => { [start, drawn] = [null, null]; drawOver(); });
  canvas.addEventListener("pointerleave", () => { hovered = null; showPoint(lastPoint); drawOver(); });
  $("map-reset").addEventListener("click", resetMap);
}
