// What the run recorded: accuracy, confusion, curves, configuration.

function showMetrics() {
  $("metrics").replaceChildren(
    ...(D.accuracy.length ? [accuracy()] : []),
    ...(D.confusion ? [confusion()] : []),
    ...(D.accuracy.length || D.confusion ? []
      : [el("div", { class: "soft" }, "These images carry no labels, so there is no accuracy to state.")]),
    curves());
}

function accuracy() {
  const shown = (value) => (value === null ? "–" : (100 * value).toFixed(1));
  const rows = D.accuracy.map((row) => [row.protocol.replaceAll("_", " "), `${row.part} ${row.group}`,
    shown(row.acc), shown(row.macro_acc), shown(row.nmi), shown(row.ari), row.num_images.toLocaleString("en")]);
  return el("div", {}, el("h2", {}, "Accuracy ", el("small", {}, "percent, mean over heads, from the labels of a benchmark")),
    table(["protocol", "images", "acc", "macro acc", "NMI", "ARI", "images"], rows, 2));
}

function confusion() {
  const { counts, true: truth, predicted } = D.confusion;
  const cell = Math.max(3, Math.min(26, Math.floor(720 / Math.max(truth.length, predicted.length))));
  const names = cell >= 13;
  const longest = Math.min(14, Math.max(...truth.concat(predicted).map((name) => name.length)));
  const margin = names ? 14 + 8 * longest : 4;
  const [width, height] = [margin + cell * predicted.length + 4, margin + cell * truth.length + 4];
  const canvas = el("canvas", { id: "confusion", role: "img", "aria-label": "Confusion matrix" });
  const readout = el("p", { class: "soft", id: "cell", role: "status" }, "Point at a cell.");
  const short = (name) => (name.length > 14 ? `${name.slice(0, 13)}…` : name);
  const draw = () => {
    const ratio = devicePixelRatio || 1;
    [canvas.width, canvas.height] = [width * ratio, height * ratio];
    canvas.style.width = `${width}px`;
    const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    pen.scale(ratio, ratio);
    counts.forEach((row, r) => {
      const total = row.reduce((a, b) => a + b, 0);
      row.forEach((count, p) => {
        pen.globalAlpha = 1;
        pen.fillStyle = style.getPropertyValue("--empty");
        pen.fillRect(margin + p * cell, margin + r * cell, cell - 1, cell - 1);
        pen.globalAlpha = Math.sqrt(count / total);
        pen.fillStyle = style.getPropertyValue("--accent");
        pen.fillRect(margin + p * cell, margin + r * cell, cell - 1, cell - 1);
      });
    });
    pen.globalAlpha = 1;
    const known = margin + cell * D.confusion.num_known - 1;
    if (D.confusion.num_known > 0 && D.confusion.num_known < truth.length) {
      pen.fillStyle = style.getPropertyValue("--bad");
      pen.fillRect(margin, known, cell * predicted.length, 1);
      pen.fillRect(known, margin, 1, cell * truth.length);
    }
    if (!names) return;
    pen.fillStyle = style.getPropertyValue("--ink");
    pen.font = "12px system-ui, sans-serif";
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    truth.forEach((name, r) => pen.fillText(short(name), margin - 6, margin + (r + 0.5) * cell));
    pen.textAlign = "left";
    predicted.forEach((name, p) => {
      pen.save();
      pen.translate(margin + (p + 0.5) * cell, margin - 6);
      pen.rotate(-Math.PI / 2);
      pen.fillText(short(name), 0, 0);
      pen.restore();
    });
  };
  canvas.addEventListener("mousemove", (event) => {
    const box = canvas.getBoundingClientRect(), zoom = width / box.width;
    const p = Math.floor(((event.clientX - box.left) * zoom - margin) / cell);
    const r = Math.floor(((event.clientY - box.top) * zoom - margin) / cell);
    const count = counts[r]?.[p];
    readout.textContent = count === undefined ? "Point at a cell."
      : `${count.toLocaleString("en")} images of “${truth[r]}” are called “${predicted[p]}”.`;
  });
  draw();
  dark.addEventListener("change", draw);
  return el("div", {}, el("h2", {}, "Confusion ", el("small", {}, `rows: true classes, columns: predicted classes, ${D.confusion.part} images`)), readout,
    el("div", { class: "beside" }, canvas, mistakes()));
}

// Names do not fit next to many classes, so the important mistakes are written out.
function mistakes() {
  const { counts, true: truth, predicted } = D.confusion;
  const wrong = counts.flatMap((row, r) => {
    const total = row.reduce((a, b) => a + b, 0);
    return row.map((count, p) => ({ r, p, count, share: count / total }));
  }).filter(({ r, p, count }) => r !== p && count);
  if (!wrong.length) return "";
  const rows = wrong.sort((a, b) => b.share - a.share || b.count - a.count).slice(0, 20).map(({ r, p, count, share }) =>
    [truth[r], predicted[p], count.toLocaleString("en"), percent(share)]);
  return el("div", { id: "mistakes" }, el("h2", {}, "Most frequent mistakes ", el("small", {}, "share of the true class")),
    table(["is", "is called", "images", "share"], rows, 2));
}

function curves() {
  const svg = "http://www.w3.org/2000/svg";
  const tidy = (value) => Number(value.toPrecision(3)).toString();
  const plots = Object.entries(D.curves).map(([name, pairs]) => {
    const xs = pairs.map(([x]) => x), ys = pairs.map(([, y]) => y);
    const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const drawing = document.createElementNS(svg, "svg"), line = document.createElementNS(svg, "polyline");
    drawing.setAttribute("viewBox", "0 0 300 110");
    drawing.setAttribute("preserveAspectRatio", "none");
    drawing.setAttribute("aria-hidden", "true");
    line.setAttribute("points", pairs.map(([x, y]) =>
      `${(300 * (x - left) / (right - left || 1)).toFixed(1)},${(105 - 100 * (y - low) / (high - low || 1)).toFixed(1)}`).join(" "));
    drawing.append(line);
    return el("figure", {}, el("figcaption", {}, name.replaceAll("_", " "),
      el("span", { class: "soft" }, `${tidy(low)} – ${tidy(high)}, last ${tidy(ys[ys.length - 1])}`)), drawing,
    el("div", { class: "axis" }, el("span", {}, `epoch ${tidy(left)}`), el("span", {}, tidy(right))));
  });
  return el("div", {}, el("h2", {}, "Training"), plots.length ? el("div", { class: "curves" }, plots) : el("p", { class: "soft" }, "No log was kept."));
}

function showAbout() {
  const rows = Object.entries(D.facts).filter(([, value]) => value).map(([name, value]) => [name, value]);
  $("about").replaceChildren(
    el("div", {}, el("h2", {}, "Run"), table(["", ""], rows, 2)),
    el("div", {}, el("h2", {}, "Configuration"), el("pre", { tabindex: "0" }, D.config)));
}
