"use strict";
(() => {
  const D = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const found = new Map(D.classes.map((entry) => [entry.id, entry]));
  const key = `crkd-review-${D.model_sha256}`;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

  // What the person decided: class id -> {action, name, names, into}; image index -> class or null.
  const decided = new Map();
  const moved = new Map();
  const selected = new Set();
  let current = D.classes.length ? D.classes[0].id : null;
  let lastPoint = null;
  let unsaved = false;

  // Every text becomes a text node: a file may be called anything.
  function el(tag, properties = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (value === null || value === undefined || value === false) continue;
      if (name === "class") node.className = value;
      else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.flat().filter((child) => child !== null));
    return node;
  }
  const picture = (image) => {
    if (!image.src) return el("span", { class: "noimage" }, image.id.split("/").pop());
    const img = el("img", { src: image.src, alt: image.id, decoding: "async" });
    img.addEventListener("load", () => img.classList.toggle("small", img.naturalWidth <= 32));
    return img;
  };
  const color = (id, alpha = 1) =>
    `hsl(${(found.has(id) ? [...found.keys()].indexOf(id) : 0) * 137.508 % 360} ` +
    `${found.has(id) ? 62 : 0}% ${dark.matches ? 64 : 44}% / ${alpha})`;

  // --- decisions ---------------------------------------------------------------------------

  const actionOf = (id) => decided.get(id)?.action ?? null;
  const nameOf = (id) => decided.get(id)?.name ?? found.get(id)?.name ?? D.known[id];
  const stays = (id) => actionOf(id) === null || actionOf(id) === "accept";
  const plain = (name) => name.normalize("NFC").trim().replace(/\s+/g, " ").toLowerCase();

  // Returns what is wrong with each decision, as class id -> sentence.
  function problems() {
    const wrong = new Map();
    const users = new Map(D.known.map((name) => [plain(name), "a known class"]));
    const claim = (id, name) => {
      const tidy = plain(name ?? "");
      if (!tidy) wrong.set(id, "Give it a name.");
      else if (name.trim().length > D.max_name) wrong.set(id, `At most ${D.max_name} characters.`);
      else if (/[\p{Cc}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]|(?![\u200c\u200d])\p{Cf}/u.test(name.trim()))
        wrong.set(id, "The name holds a character that cannot be seen.");
      else if (users.has(tidy)) wrong.set(id, `“${name.trim()}” is taken by ${users.get(tidy)}.`);
      else users.set(tidy, `class ${id}`);
    };
    for (const { id } of D.classes) {
      const action = actionOf(id);
      if (stays(id)) claim(id, nameOf(id));
      if (action === "split") decided.get(id).names.forEach((name) => claim(id, name));
      if (action === "merge" && !stays(decided.get(id).into))
        wrong.set(id, `“${nameOf(decided.get(id).into)}” does not stay; merge into another class.`);
    }
    if (D.classes.length && D.classes.every(({ id }) => actionOf(id) === "reject"))
      wrong.set(D.classes[0].id, "Every class is rejected; keep at least one.");
    return wrong;
  }

  function decide(id, action, more = {}) {
    const name = nameOf(id);
    if (action === null) decided.delete(id);
    else decided.set(id, { action, name, ...more });
    changed();
  }

  function changed() {
    unsaved = true;
    try {
      localStorage.setItem(key, JSON.stringify([[...decided], [...moved]]));
    } catch { /* a browser may forbid it for local files; the page works without */ }
    showList();
    showProgress();
  }

  function restore() {
    try {
      const [classes, images] = JSON.parse(localStorage.getItem(key)) ?? [[], []];
      for (const [id, decision] of classes) if (found.has(id)) decided.set(id, decision);
      for (const [index, to] of images) if (D.images[index]) moved.set(index, to);
    } catch { /* nothing was kept, or nothing usable */ }
  }

  function decisions() {
    const classes = [];
    for (const { id } of D.classes) {
      const choice = decided.get(id);
      if (!choice) continue;
      const { action } = choice;
      if (action === "accept") classes.push({ id, action, name: choice.name.trim() });
      if (action === "reject") classes.push({ id, action });
      if (action === "merge") classes.push({ id, action, into: choice.into });
      if (action === "split")
        classes.push({ id, action, names: choice.names.map((name) => name.trim()),
          seeds: found.get(id).halves.seeds });
    }
    const images = [...moved].map(([index, to]) => ({
      id: D.images[index].id, to: to !== null && actionOf(to) === "reject" ? null : to,
    }));
    return { format: D.format, version: D.version, model_sha256: D.model_sha256, classes, images };
  }

  function save() {
    const wrong = problems();
    if (wrong.size) {
      choose(wrong.keys().next().value);
      return;
    }
    const text = JSON.stringify(decisions(), null, 1);
    const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    const link = el("a", { href: url, download: "decisions.json" });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
    unsaved = false;
    showProgress("saved as decisions.json");
  }

  // --- list of classes -----------------------------------------------------------------------

  function visible() {
    const wanted = plain($("filter").value);
    const rank = {
      id: (entry) => entry.id,
      size: (entry) => -entry.size,
      stability: (entry) => entry.stability ?? 2,
      open: (entry) => (actionOf(entry.id) ? 1 : 0),
    }[$("sort").value];
    return D.classes
      .filter((entry) => plain(nameOf(entry.id)).includes(wanted) || plain(entry.name).includes(wanted))
      .sort((a, b) => rank(a) - rank(b) || a.id - b.id);
  }

  const badges = { accept: "accepted", reject: "rejected", merge: "merged", split: "split" };

  function listRow(entry, wrong) {
    const action = actionOf(entry.id);
    const strip = entry.typical.slice(0, 3).map((index) =>
      D.images[index].src ? picture(D.images[index]) : el("i"));
    const meta = [`${entry.size.toLocaleString("en")} images`];
    if (entry.stability !== null) meta.push(`${percent(entry.stability)} stable`);
    const label = wrong.has(entry.id) ? "look again" : badges[action];
    return el("li", {}, el("button", {
      class: action === "reject" ? "row rejected" : "row", "data-id": entry.id,
      "aria-current": entry.id === current, onclick: () => choose(entry.id),
    },
    el("span", { class: "strip", "aria-hidden": "true" }, strip),
    el("span", { class: "text" },
      el("span", { class: "name" }, swatch(entry.id), nameOf(entry.id)),
      el("span", { class: "meta" }, meta.join(" · "))),
    label ? el("span", { class: `badge ${wrong.has(entry.id) ? "reject" : action}` }, label) : null));
  }

  function swatch(id) {
    const dot = el("i", { class: "swatch" });
    dot.style.background = color(id);
    return dot;
  }

  function showList() {
    const wrong = problems();
    const top = $("list").scrollTop;
    $("list").replaceChildren(...visible().map((entry) => listRow(entry, wrong)));
    $("list").scrollTop = top;
  }

  function showProgress(note) {
    const count = D.classes.filter(({ id }) => decided.has(id)).length;
    const images = moved.size ? `, ${moved.size} images moved` : "";
    $("progress").textContent = note ?? `${count} of ${D.classes.length} decided${images}`;
  }

  function choose(id) {
    current = id;
    selected.clear();
    showList();
    showDetail();
    showSelection();
    $("detail").scrollTop = 0;
    $("list").querySelector("[aria-current=true]")?.scrollIntoView({ block: "nearest" });
    if (!$("map").hidden) drawMap();
  }

  function step(by) {
    const order = visible().map((entry) => entry.id);
    if (!order.length) return;
    const place = order.indexOf(current);
    choose(order[Math.min(order.length - 1, Math.max(0, place + by))]);
  }

  // --- one class -----------------------------------------------------------------------------

  function showDetail() {
    const entry = found.get(current);
    if (!entry) {
      $("detail").replaceChildren(el("p", {}, "This run discovered no class."));
      return;
    }
    const action = actionOf(entry.id);
    const name = el("input", { id: "name", value: nameOf(entry.id), maxlength: D.max_name,
      "aria-label": "Name of the class", disabled: action === "reject" || action === "merge" || action === "split" });
    name.addEventListener("input", () => {
      decided.set(entry.id, { action: "accept", name: name.value });
      changed();
      markActions();
    });
    const share = D.num_images ? percent(entry.size / D.num_images) : "";
    $("detail").replaceChildren(
      el("div", { class: "naming" }, swatch(entry.id), name,
        el("span", { class: "soft" }, `class ${entry.id} · ${entry.size.toLocaleString("en")} images, ${share} of all`),
        el("span", { class: "problem", id: "problem", role: "status" })),
      actionBar(entry),
      action === "split" ? halves(entry) : "",
      el("div", { class: "facts" }, resemblance(entry), stability(entry)),
      grid("Most typical", "where the model is surest", entry.typical),
      entry.doubtful.length ? grid("Most doubtful", "where it is least sure", entry.doubtful) : "",
    );
    markActions();
  }

  function actionBar(entry) {
    const into = el("select", { class: "merge", id: "into", "aria-label": "Merge into another class" },
      el("option", { value: "" }, "Merge into …"),
      D.classes.filter(({ id }) => id !== entry.id && stays(id)).map(({ id }) => el("option", { value: id }, nameOf(id))));
    const target = decided.get(entry.id)?.into;
    into.value = target ?? "";
    into.addEventListener("change", () => act("merge", into.value === "" ? null : Number(into.value)));
    const button = (action, text, hint, more = {}) => el("button", {
      class: action, id: `do-${action}`, title: hint, onclick: () => act(action), ...more }, text);
    return el("div", { class: "actions", role: "toolbar", "aria-label": "Decide on this class" },
      button("accept", "Accept", "Keep it under this name (a)"),
      button("reject", "Reject", "No class (x)"),
      into,
      button("split", "Split", entry.halves ? "Divide it in two (s)" : "Its images do not fall into two parts",
        { disabled: !entry.halves }),
      button("open", "Undecided", "Take the decision back (u)"));
  }

  function markActions() {
    const action = actionOf(current);
    for (const name of ["accept", "reject", "split"])
      $(`do-${name}`)?.setAttribute("aria-pressed", action === name);
    $("into")?.classList.toggle("on", action === "merge");
    if ($("do-open")) $("do-open").disabled = action === null;
    if ($("problem")) $("problem").textContent = problems().get(current) ?? "";
  }

  function act(action, into = null) {
    const entry = found.get(current);
    const again = actionOf(current) === action;
    if (action === "open" || (again && action !== "merge")) decide(current, null);
    else if (action === "merge") into === null ? decide(current, null) : decide(current, "merge", { into });
    else if (action === "split") {
      if (!entry.halves) return;
      const name = nameOf(current);
      decide(current, "split", { names: [`${name} a`, `${name} b`] });
    } else decide(current, action);
    const focused = document.activeElement?.id;
    showDetail();
    if (focused) $(focused)?.focus();
  }

  function halves(entry) {
    const half = (number) => {
      const input = el("input", { value: decided.get(entry.id).names[number], maxlength: D.max_name,
        "aria-label": `Name of part ${number + 1}` });
      input.addEventListener("input", () => {
        decided.get(entry.id).names[number] = input.value;
        changed();
        markActions();
      });
      const part = [...entry.typical, ...entry.doubtful].filter((index) => D.images[index].half === number);
      return el("div", {}, input, grid(`Part ${number + 1}`, `${entry.halves.sizes[number].toLocaleString("en")} images`, part.slice(0, 16)));
    };
    return el("div", { class: "halves" }, half(0), half(1));
  }

  function resemblance(entry) {
    return el("div", {}, el("h2", {}, "Resembles ", el("small", {}, "known classes")),
      el("div", { class: "bars" }, entry.resembles.flatMap(([id, share]) => bar(D.known[id], share))));
  }

  function bar(label, share) {
    const fill = el("i");
    fill.style.width = `${100 * share}%`;
    return [el("span", { class: "label", title: label }, label), el("span", { class: "track" }, fill),
      el("span", { class: "value" }, percent(share))];
  }

  function stability(entry) {
    if (entry.stability === null) return "";
    const sentence = entry.stability >= 0.8 ? "The other heads found the same class."
      : entry.stability >= 0.5 ? "The other heads found it in part; look at the doubtful images."
        : "The other heads drew other borders; it may be a mixture.";
    const fill = el("i");
    fill.style.width = `${100 * entry.stability}%`;
    return el("div", {}, el("h2", {}, "Stability ", el("small", {}, "over heads")),
      el("p", {}, el("span", { class: "figure" }, percent(entry.stability)), el("span", { class: "soft" }, sentence)),
      el("div", { class: "track" }, fill));
  }

  function grid(title, note, indices) {
    return el("div", {}, el("h2", {}, `${title} `, el("small", {}, note)),
      el("div", { class: "grid" }, indices.map(thumb)));
  }

  function thumb(index) {
    const image = D.images[index];
    const to = moved.get(index);
    return el("button", {
      class: to === undefined ? "thumb" : "thumb gone", "aria-pressed": selected.has(index), "data-image": index,
      title: `${image.id}\nconfidence ${percent(image.confidence)}`,
      onclick: () => {
        selected.has(index) ? selected.delete(index) : selected.add(index);
        for (const node of document.querySelectorAll(`[data-image="${index}"]`))
          node.setAttribute("aria-pressed", selected.has(index));
        showSelection();
      },
    }, picture(image), to === undefined ? null
      : el("span", { class: "mark" }, to === null ? "out" : `→ ${nameOf(to)}`));
  }

  // --- selected images -----------------------------------------------------------------------

  function showSelection() {
    const bar = $("selection");
    bar.hidden = selected.size === 0;
    if (bar.hidden) return;
    const target = el("select", { id: "target", "aria-label": "Move the selected images" },
      el("option", { value: "" }, "Move to …"),
      D.classes.filter(({ id }) => id !== current && actionOf(id) !== "reject")
        .map(({ id }) => el("option", { value: id }, nameOf(id))));
    target.addEventListener("change", () => target.value !== "" && move(Number(target.value)));
    bar.replaceChildren(
      el("span", {}, `${selected.size} selected`), target,
      el("button", { id: "take-out", onclick: () => move(null), title: "Of no class (o)" }, "Take out"),
      el("button", { id: "put-back", onclick: () => move(undefined), title: "Where the model put them (b)" }, "Put back"),
      el("button", { onclick: clearSelection, title: "Escape" }, "Clear"));
  }

  function move(to) {
    for (const index of selected) to === undefined ? moved.delete(index) : moved.set(index, to);
    changed();
    clearSelection();
  }

  function clearSelection() {
    selected.clear();
    showSelection();
    showDetail();
  }

  // --- map -----------------------------------------------------------------------------------

  const points = D.images.map((image, index) => ({ image, index })).filter(({ image }) => image.at);

  function frame() {
    const canvas = $("plane");
    const { width, height } = canvas.getBoundingClientRect();
    const xs = points.map(({ image }) => image.at[0]), ys = points.map(({ image }) => image.at[1]);
    const low = [Math.min(...xs), Math.min(...ys)], high = [Math.max(...xs), Math.max(...ys)];
    const scale = Math.min((width - 40) / (high[0] - low[0] || 1), (height - 40) / (high[1] - low[1] || 1));
    const middle = [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2];
    return { canvas, width, height, to: ([x, y]) => [width / 2 + scale * (x - middle[0]), height / 2 - scale * (y - middle[1])] };
  }

  function drawMap() {
    const { canvas, width, height, to } = frame();
    const ratio = devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const dot = (point, radius) => {
      const [x, y] = to(point.image.at);
      pen.beginPath();
      pen.arc(x, y, radius, 0, 7);
      pen.fill();
    };
    for (const point of points) {
      if (point.image.class === current) continue;
      pen.fillStyle = color(point.image.class, 0.45);
      dot(point, 2.5);
    }
    pen.fillStyle = color(current);
    for (const point of points) if (point.image.class === current) dot(point, 4);
    if (lastPoint) {
      const [x, y] = to(lastPoint.image.at);
      pen.strokeStyle = getComputedStyle(document.body).color;
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(x, y, 8, 0, 7);
      pen.stroke();
    }
  }

  function showPoint() {
    const box = $("point");
    if (!lastPoint) {
      box.replaceChildren(
        el("p", { class: "soft" }, `${points.length.toLocaleString("en")} of ${D.num_images.toLocaleString("en")} images, placed by principal components of the class means. Click a point to see its image.`),
        el("p", { class: "soft" }, "Distances on a plane are a hint, not a measurement."));
      return;
    }
    const { image } = lastPoint;
    const known = !found.has(image.class);
    box.replaceChildren(
      el("p", {}, known ? "" : swatch(image.class), el("strong", {}, nameOf(image.class)), known ? " (known class)" : ""),
      image.src ? picture(image) : el("p", { class: "soft" }, "No picture of this image in the page."),
      el("p", {}, image.id), el("p", { class: "soft" }, `confidence ${percent(image.confidence)}`),
      known ? "" : el("button", { onclick: () => { choose(image.class); open("classes"); } }, "Open the class"));
  }

  function pick(point) {
    lastPoint = point;
    if (point && found.has(point.image.class)) current = point.image.class;
    showPoint();
    drawMap();
    showList();
    showDetail();
  }

  function pickNear(event) {
    const { canvas, to } = frame();
    const box = canvas.getBoundingClientRect();
    let best = null, nearest = 400;
    for (const point of points) {
      const [x, y] = to(point.image.at);
      const distance = (x - event.clientX + box.left) ** 2 + (y - event.clientY + box.top) ** 2;
      if (distance < nearest) [best, nearest] = [point, distance];
    }
    pick(best);
  }

  function stepPoint(by) {
    const own = points.filter((point) => point.image.class === current);
    if (own.length) pick(own[(own.indexOf(lastPoint) + by + own.length) % own.length]);
  }

  // --- figures and facts -----------------------------------------------------------------------

  function showFigures() {
    $("figures").replaceChildren(
      ...(D.accuracy.length ? [accuracy()] : []),
      ...(D.confusion ? [confusion()] : []),
      ...(D.accuracy.length || D.confusion ? []
        : [el("div", { class: "soft" }, "These images carry no labels, so there is no accuracy to state.")]),
      curves());
  }

  function table(head, rows, numeric) {
    const kind = (column) => (column >= numeric ? "number" : null);
    return el("table", {}, el("thead", {}, el("tr", {}, head.map((text, n) => el("th", { class: kind(n), scope: "col" }, text)))),
      el("tbody", {}, rows.map((cells) => el("tr", {}, cells.map((text, n) => el("td", { class: kind(n) }, text))))));
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

  // Names do not fit beside many classes: the mistakes that matter are written out.
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

  // --- page --------------------------------------------------------------------------------------

  const tabs = ["classes", "map", "figures", "about"];
  const shortcuts = [
    ["j k", "next, previous class"], ["a", "accept"], ["r", "rename"], ["x", "reject"],
    ["m", "merge into another class"], ["s", "split in two"], ["u", "undecided again"],
    ["Tab, Space", "go to an image, select it"], ["o b", "take selected images out, put them back"],
    ["t", "move selected images to a class"], ["1 2 3 4", "classes, map, figures, run"],
    ["← →", "on the map: points of the chosen class"], ["Ctrl+S", "save decisions"], ["Esc", "leave a field, clear the selection"],
  ];

  function open(name) {
    for (const tab of tabs) {
      $(tab).hidden = tab !== name;
      $(`tab-${tab}`).setAttribute("aria-selected", tab === name);
      $(`tab-${tab}`).tabIndex = tab === name ? 0 : -1;
    }
    if (name === "map") {
      showPoint();
      drawMap();
    }
  }

  function onKey(event) {
    if ((event.ctrlKey || event.metaKey) && event.key === "s") {
      event.preventDefault();
      save();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
    const field = event.target.matches("input, select");
    if (event.key === "Escape") field ? event.target.blur() : clearSelection();
    if (field && (event.key === "Enter") && event.target.id === "name") event.target.blur();
    if (field) return;
    if (event.target.getAttribute("role") === "tab" && event.key.startsWith("Arrow")) {
      const next = tabs[(tabs.indexOf(event.target.id.slice(4)) + (event.key === "ArrowRight" ? 1 : 3)) % 4];
      open(next);
      $(`tab-${next}`).focus();
      return;
    }
    if (event.target.id === "plane" && event.key.startsWith("Arrow")) {
      event.preventDefault();
      stepPoint(event.key === "ArrowRight" || event.key === "ArrowDown" ? 1 : -1);
      return;
    }
    const keys = {
      j: () => step(1), k: () => step(-1), a: () => act("accept"), x: () => act("reject"), s: () => act("split"), u: () => act("open"),
      r: () => { $("name")?.focus(); $("name")?.select(); }, m: () => $("into")?.focus(),
      o: () => selected.size && move(null), b: () => selected.size && move(undefined), t: () => $("target")?.focus(),
      1: () => open("classes"), 2: () => open("map"), 3: () => open("figures"), 4: () => open("about"),
      "?": () => $("keys").showModal(),
    };
    if (event.key in keys) {
      event.preventDefault();
      keys[event.key]();
    }
  }

  $("title").textContent = D.title;
  $("summary").textContent = `${D.run} · ${D.num_images.toLocaleString("en")} unlabeled images` +
    (D.answered_known ? `, ${D.answered_known.toLocaleString("en")} of them predicted as one of ${D.known.length} known classes` : "");
  for (const tab of tabs) $(`tab-${tab}`).addEventListener("click", () => open(tab));
  $("save").addEventListener("click", save);
  $("filter").addEventListener("input", showList);
  $("sort").addEventListener("change", showList);
  $("plane").addEventListener("click", pickNear);
  $("keys-open").addEventListener("click", () => $("keys").showModal());
  $("keys").append(el("h1", {}, "Keys"), el("p", { class: "soft" }, "Escape closes this."),
    table(["", ""], shortcuts.map(([key, text]) => [el("span", {}, key.split(" ").flatMap((k) => [el("kbd", {}, k.replace(",", "")), " "])), text]), 2));
  document.addEventListener("keydown", onKey);
  addEventListener("resize", () => $("map").hidden || drawMap());
  dark.addEventListener("change", () => { showList(); showDetail(); if (!$("map").hidden) drawMap(); });
  addEventListener("beforeunload", (event) => unsaved && event.preventDefault());
  restore();
  showFigures();
  showAbout();
  showList();
  showProgress();
  showDetail();
  open("classes");
})();
