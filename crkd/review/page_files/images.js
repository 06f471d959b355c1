// Pictures of the images, and colors of the classes.

const known = D.known.length;
const found = new Map(D.classes.map((entry) => [entry.id, entry]));
const hues = new Map(D.classes.map((entry, place) => [entry.id, (place * 137.508) % 360]));

const color = (id, alpha = 1) =>
  hues.has(id) ? `hsl(${hues.get(id)} 62% ${dark.matches ? 64 : 44}% / ${alpha})`
    : `hsl(0 0% ${dark.matches ? 64 : 44}% / ${alpha})`;

function swatch(id) {
  const dot = el("i", { class: "swatch" });
  dot.style.background = color(id);
  return dot;
}

const fileName = (index) => D.images[index].id.split("/").pop();

// Returns the thumbnail of an image: an element of its own, or a part of a sheet in a file.
function thumbnail(index) {
  const image = D.images[index];
  if (image.unreadable || !(image.src || D.sheets)) return el("span", { class: "noimage" }, fileName(index));
  if (image.src) {
    const img = el("img", { src: image.src, alt: image.id, decoding: "async", draggable: "false" });
    img.addEventListener("load", () => img.classList.toggle("small", img.naturalWidth <= 32));
    return img;
  }
  const { folder, across, side } = D.sheets;
  const [sheet, place] = [Math.floor(index / across ** 2), index % across ** 2];
  const part = el("span", { class: side <= 32 ? "part small" : "part", role: "img", "aria-label": image.id });
  part.style.backgroundImage = `url("${encodeURIComponent(folder)}/${sheet}.jpg")`;
  part.style.backgroundSize = `${100 * across}% ${100 * across}%`;
  const shift = (cell) => `${(100 * cell) / (across - 1)}%`;
  part.style.backgroundPosition = `${shift(place % across)} ${shift(Math.floor(place / across))}`;
  return part;
}

// Returns the image in full size where its file is on this computer, else the thumbnail.
function enlarged(index) {
  const image = D.images[index];
  const below = image.file ?? image.id.slice(image.id.indexOf("/") + 1);
  if (location.protocol !== "file:" || !D.root || !below) return thumbnail(index);
  const img = el("img", { src: D.root + below, alt: image.id });
  img.addEventListener("load", () => img.classList.toggle("small", img.naturalWidth <= 24));
  img.addEventListener("error", () => img.replaceWith(thumbnail(index)));
  return img;
}
