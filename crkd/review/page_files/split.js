// Split of a class into parts by clusters of its images.

const MOST_PARTS = 12;

function splitInto(id, parts) {
  const list = members(id), of = kmeans(list, parts);
  if (!of) {
    showProgress(`${nameOf(id)} has no ${parts} clusters`);
    return;
  }
  const name = found.has(id) && decided.get(id)?.action !== "split" ? nameOf(id) : decided.get(id).name;
  const letter = (number) => String.fromCharCode(97 + number);
  decide(id, { action: "split", name, of,
    parts: Array.from({ length: parts }, (_, number) => ({ name: `${name} ${letter(number)}`, into: null })) });
}

function changePart(id, number, change, tag = null) {
  const choice = decided.get(id);
  decide(id, { ...choice, parts: choice.parts.map((part, n) => (n === number ? { ...part, ...change } : part)) }, tag);
  markActions();
}

function partsEditor(entry) {
  const choice = decided.get(entry.id);
  const number = el("input", { id: "parts", type: "number", min: 2, max: MOST_PARTS, value: choice.parts.length });
  number.addEventListener("change", () => {
    const wanted = Math.min(MOST_PARTS, Math.max(2, Math.round(Number(number.value)) || 2));
    splitInto(entry.id, wanted);
    view.part = null;
    showDetail();
    showPictures(true);
    $("parts").focus();
  });
  const list = members(entry.id);
  return el("div", { class: "parts" },
    el("label", {}, "Number of parts ", number, el("span", { class: "soft" }, " clusters of the images")),
    el("div", { class: "part-list" }, choice.parts.map((part, n) => partBox(entry.id, part, n, list.filter((index) => (choice.of.get(index) ?? 0) === n)))));
}

function partBox(id, part, number, list) {
  const name = el("input", { value: part.name, maxlength: D.max_name, "aria-label": `Name of part ${number + 1}`, disabled: part.into !== null, class: "part-name" });
  name.addEventListener("input", () => changePart(id, number, { name: name.value }, `part ${id} ${number}`));
  const into = el("select", { "aria-label": `Class of part ${number + 1}`, class: "part-into" }, targetOptions("a class of its own", String(id), { parts: false }));
  into.value = part.into ?? "";
  into.addEventListener("change", () => {
    changePart(id, number, { into: into.value || null });
    showDetail();
    showPictures(true);
  });
  const chosen = view.part === number;
  return el("div", { class: "part-box" },
    el("div", { class: "part-head" }, el("strong", {}, `Part ${number + 1}`), el("span", { class: "soft" }, images(list.length)),
      el("button", { "aria-pressed": String(chosen), "aria-label": `Show part ${number + 1} alone`, onclick: () => {
        view.part = chosen ? null : number;
        showDetail();
        showPictures();
      } }, "Show")),
    el("div", { class: "strip", "aria-hidden": "true" }, list.slice(0, 6).map(thumbnail)), name, into);
}
