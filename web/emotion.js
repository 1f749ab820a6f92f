// The emotion that the inputs of the Emotion node stand for: the same as facecrafter_core.faces.emotion, whose class centroids
// and spread come with the definition of the node.

export class Circumplex {
  constructor({ centroids, spread }) {
    this.names = Object.keys(centroids);
    this.centroids = centroids;
    this.spread = spread;
  }

  // {source, preset, intensity, valence, arousal, neutral, happy, ...} -> {point: [valence, arousal], shares: [8]}
  emotion(values) {
    if (values.source === "preset") {
      const { preset, intensity } = values;
      const [valence, arousal] = this.centroids[preset];
      const shares = this.names.map((name) => (name === preset) * intensity + (name === "neutral") * (1 - intensity));
      return { point: [intensity * valence, intensity * arousal], shares };
    }
    const point = [values.valence, values.arousal];
    if (values.source === "classes") return { point, shares: this.names.map((name) => values[name]) };
    return { point, shares: this.distribution(point) };
  }

  // Softmax of the negative squared distances to the class centroids.
  distribution([valence, arousal]) {
    const scores = this.names.map((name) => {
      const [v, a] = this.centroids[name];
      return -((v - valence) ** 2 + (a - arousal) ** 2) / (2 * this.spread ** 2);
    });
    const top = Math.max(...scores);
    const parts = scores.map((score) => Math.exp(score - top));
    const sum = parts.reduce((a, b) => a + b);
    return parts.map((part) => part / sum);
  }

  // The class whose centroid is nearest to a point, and its distance.
  nearest([valence, arousal], names = this.names) {
    const far = (name) => Math.hypot(this.centroids[name][0] - valence, this.centroids[name][1] - arousal);
    const name = names.reduce((best, other) => (far(other) < far(best) ? other : best));
    return { name, distance: far(name) };
  }
}

// Shares in whole hundredths that sum to 1, with share `fixed` as it is given and the others in proportion to each other.
// If there are no others, neutral (the first) takes what is left; if neutral falls, the rest shares it evenly.
export function withShare(shares, fixed, value) {
  const rest = shares.map((share, i) => (i === fixed ? 0 : Math.max(0, share)));
  let sum = rest.reduce((a, b) => a + b);
  if (sum === 0) {
    if (fixed === 0) rest.fill(1, 1);
    else rest[0] = 1;
    sum = rest.reduce((a, b) => a + b);
  }
  const mine = Math.round(value * 100);
  const exact = rest.map((share) => (share / sum) * (100 - mine));
  const whole = exact.map(Math.floor);
  whole[fixed] = mine;
  const order = exact
    .map((x, i) => [x - Math.floor(x), i])
    .filter(([, i]) => i !== fixed)
    .sort((a, b) => b[0] - a[0]);
  const missing = 100 - whole.reduce((a, b) => a + b);
  for (const [, i] of order.slice(0, missing)) whole[i] += 1;
  return whole.map((n) => n / 100);
}
