// Search and clusters in the compact features of the images.

const width = D.features.width;
const vectors = (() => {
  const bytes = atob(D.features.values);
  const values = new Int8Array(bytes.length);
  for (let n = 0; n < bytes.length; n++) values[n] = bytes.charCodeAt(n);
  return values;
})();

// Returns the nearest images of an image over all classes, itself first.
function nearest(index, limit) {
  const query = vectors.subarray(index * width, (index + 1) * width);
  const distances = new Float32Array(D.images.length);
  for (let row = 0, at = 0; row < distances.length; row++) {
    let sum = 0;
    for (let n = 0; n < width; n++, at++) sum += (vectors[at] - query[n]) ** 2;
    distances[row] = sum;
  }
  distances[index] = -1;
  const bound = distances.slice().sort()[Math.min(limit, distances.length) - 1];
  const near = [];
  for (let row = 0; row < distances.length; row++) if (distances[row] <= bound) near.push(row);
  return near.sort((a, b) => distances[a] - distances[b] || a - b).slice(0, limit);
}

// The generator "mulberry32": the same seed gives the same parts in every browser.
function generator(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let word = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    word = (word + Math.imul(word ^ (word >>> 7), 61 | word)) ^ word;
    return ((word ^ (word >>> 14)) >>> 0) / 4294967296;
  };
}

function distanceTo(index, center) {
  let sum = 0;
  for (let n = 0, at = index * width; n < width; n++, at++) sum += (vectors[at] - center[n]) ** 2;
  return sum;
}

function closest(index, centers) {
  let best = 0, least = Infinity;
  centers.forEach((center, number) => {
    const distance = distanceTo(index, center);
    if (distance < least) [best, least] = [number, distance];
  });
  return [best, least];
}

// The first centers of k-means++: each is drawn in proportion to its squared distance from the others.
function firstCenters(rows, parts, random) {
  const at = (row) => Float32Array.from(vectors.subarray(row * width, (row + 1) * width));
  const centers = [at(rows[Math.floor(random() * rows.length)])];
  while (centers.length < parts) {
    const weights = rows.map((row) => closest(row, centers)[1]);
    let left = random() * weights.reduce((a, b) => a + b, 0);
    if (!(left > 0)) return null;
    let drawn = weights.findIndex((weight) => (left -= weight) < 0);
    if (drawn < 0) drawn = weights.length - 1;
    centers.push(at(rows[drawn]));
  }
  return centers;
}

function lloyd(rows, centers) {
  for (let round = 0; round < 40; round++) {
    const sums = centers.map(() => new Float64Array(width + 1));
    for (const row of rows) {
      const sum = sums[closest(row, centers)[0]];
      for (let n = 0; n < width; n++) sum[n] += vectors[row * width + n];
      sum[width] += 1;
    }
    let change = 0;
    sums.forEach((sum, number) => {
      if (!sum[width]) return;
      for (let n = 0; n < width; n++) {
        const mean = sum[n] / sum[width];
        change += Math.abs(mean - centers[number][n]);
        centers[number][n] = mean;
      }
    });
    if (change < 1e-3) break;
  }
  return centers;
}

// Returns the part of every image by k-means, the largest part first; null if there are fewer clusters.
function kmeans(list, parts) {
  const step = Math.ceil(list.length / 4000);
  const rows = list.filter((_, place) => place % step === 0);
  let best = null, least = Infinity;
  for (let restart = 0; restart < 4; restart++) {
    const first = rows.length < parts ? null : firstCenters(rows, parts, generator(restart));
    if (!first) return null;
    const centers = lloyd(rows, first);
    const error = rows.reduce((sum, row) => sum + closest(row, centers)[1], 0);
    if (error < least) [best, least] = [centers, error];
  }
  const labels = list.map((row) => closest(row, best)[0]);
  const counts = best.map((_, number) => labels.filter((label) => label === number).length);
  if (counts.includes(0)) return null;
  const order = counts.map((_, number) => number).sort((a, b) => counts[b] - counts[a]);
  return new Map(list.map((index, place) => [index, order.indexOf(labels[place])]));
}
