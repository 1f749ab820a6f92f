// The landmark arithmetic of facecrafter_core/faces/edit.py for one face, so that the editor can show a change at once.
// Points are flat arrays x0, y0, z0, x1, ... of 478 points in units of the picture.

let loaded

/** The face model (web/face.json), read once. */
export function faceModel() {
  loaded ??= fetch(new URL("./face.json", import.meta.url)).then((answer) => answer.json()).then(unpack)
  return loaded
}

export function unpack(data) {
  const bytes = Uint8Array.from(atob(data.displacements), (c) => c.charCodeAt(0))
  return { ...data, steps: new Int16Array(bytes.buffer), neutral: data.neutral.flat() }
}

/** The built-in face, as the server starts from when no landmarks are connected: {points, rotation, scale, centre}. */
export function neutralFace(model) {
  const [cx, cy, half] = faceSquare(model, model.neutral)
  const points = model.neutral.map((v, i) => (v - [cx, cy, 0][i % 3]) / (2 * half) + [0.5, 0.5, 0][i % 3])
  return { points, rotation: [1, 0, 0, 0, 1, 0, 0, 0, 1], scale: 1 / (2 * half), centre: [0.5 - cx / (2 * half), 0.5 - cy / (2 * half), 0] }
}

/** edit(): turn the head, add facial actions, move parts.
 *  face: {points, rotation, scale, centre}; pose: {yaw, pitch, roll} in degrees; expression: {name: weight}; moves: {part: [dx, dy]}. */
export function edit(model, face, pose, expression, moves) {
  let { points, rotation, scale, centre } = face
  if (pose.yaw || pose.pitch || pose.roll) {
    const old = poseOf(rotation)
    const turned = rotationOf({ yaw: old.yaw + pose.yaw, pitch: old.pitch + pose.pitch, roll: old.roll + pose.roll })
    const out = new Array(points.length)
    for (let i = 0; i < points.length; i += 3) {
      const d = [points[i] - centre[0], points[i + 1] - centre[1], points[i + 2] - centre[2]]
      const local = [0, 1, 2].map((k) => d[0] * rotation[k] + d[1] * rotation[3 + k] + d[2] * rotation[6 + k])
      for (let k = 0; k < 3; k++) out[i + k] = centre[k] + turned[3 * k] * local[0] + turned[3 * k + 1] * local[1] + turned[3 * k + 2] * local[2]
    }
    const [cx, cy, half] = faceSquare(model, out), [wx, wy, wanted] = faceSquare(model, points)
    const zoom = wanted / half
    points = out.map((v, i) => (v - [cx, cy, 0][i % 3]) * zoom + [wx, wy, 0][i % 3])
    rotation = turned
    scale *= zoom
  }
  points = Array.from(points)
  for (const [name, weight] of Object.entries(expression)) {
    for (const [action, share] of Object.entries(model.groups[name])) {
      const first = model.names.indexOf(action) * points.length
      const factor = weight * share * scale * model.resolution
      for (let i = 0; i < points.length; i += 3) {
        const d = [0, 1, 2].map((k) => model.steps[first + i + k])
        for (let k = 0; k < 3; k++) points[i + k] += factor * (rotation[3 * k] * d[0] + rotation[3 * k + 1] * d[1] + rotation[3 * k + 2] * d[2])
      }
    }
  }
  for (const [part, [dx, dy]] of Object.entries(moves)) {
    for (const i of model.move_groups[part]) {
      points[3 * i] += dx
      points[3 * i + 1] += dy
    }
  }
  return points
}

/** FFHQ's upright square: [centre x, centre y, half of the side] (faces/align.py). */
function faceSquare(model, points) {
  const mean = (ids) => [0, 1].map((k) => ids.reduce((sum, i) => sum + points[3 * i + k], 0) / ids.length)
  const [right, left] = model.eyes.map(mean)
  const eyes = [(right[0] + left[0]) / 2, (right[1] + left[1]) / 2]
  const mouth = mean(model.mouth_corners)
  const down = [mouth[0] - eyes[0], mouth[1] - eyes[1]]
  const half = Math.max(2 * Math.hypot(left[0] - right[0], left[1] - right[1]), 1.8 * Math.hypot(...down))
  return [eyes[0] + 0.1 * down[0], eyes[1] + 0.1 * down[1], half]
}

const DEGREES = 180 / Math.PI
const FLIP = [1, -1, -1] // pictures have y down and z away, the camera y up and z towards the viewer

/** Rotation in the picture's axes (9 numbers, row by row) -> head angles in degrees. */
export function poseOf(rotation) {
  const r = (i, k) => rotation[3 * i + k] * FLIP[i] * FLIP[k]
  return {
    yaw: Math.atan2(r(0, 2), r(2, 2)) * DEGREES,
    pitch: Math.asin(Math.max(-1, Math.min(1, r(1, 2)))) * DEGREES,
    roll: -Math.atan2(r(1, 0), r(1, 1)) * DEGREES,
  }
}

/** Head angles in degrees -> rotation in the picture's axes: yaw after pitch after roll. */
export function rotationOf({ yaw, pitch, roll }) {
  const [y, p, r] = [yaw, -pitch, -roll].map((angle) => angle / DEGREES)
  const [sy, cy, sp, cp, sr, cr] = [Math.sin(y), Math.cos(y), Math.sin(p), Math.cos(p), Math.sin(r), Math.cos(r)]
  const m = [
    cy * cr + sy * sp * sr, -cy * sr + sy * sp * cr, sy * cp,
    cp * sr, cp * cr, -sp,
    -sy * cr + cy * sp * sr, sy * sr + cy * sp * cr, cy * cp,
  ]
  return m.map((v, i) => v * FLIP[Math.floor(i / 3)] * FLIP[i % 3])
}

/** "smile 0.6, jawOpen 0.3" -> {smile: 0.6, jawOpen: 0.3}; null where the text cannot be read. */
export function parseExpression(model, text) {
  return parse(text, Object.keys(model.groups), 1)
}

/** "leftBrow 0 -0.02" -> {leftBrow: [0, -0.02]}; null where the text cannot be read. */
export function parseMoves(model, text) {
  return parse(text, Object.keys(model.move_groups), 2)
}

function parse(text, names, count) {
  const known = new Map(names.map((name) => [name.toLowerCase(), name]))
  const out = {}
  for (const part of text.split(/[,;\n]/).map((p) => p.trim()).filter(Boolean)) {
    const [name, ...rest] = part.split(/[\s:=]+/)
    const values = rest.map(Number)
    if (!known.has(name.toLowerCase()) || values.length !== count || !values.every(Number.isFinite)) return null
    out[known.get(name.toLowerCase())] = count === 1 ? values[0] : values
  }
  return out
}

/** The text of weights or moves; zeros are left out. */
export function format(values) {
  const number = (v) => String(Number(v.toFixed(3)))
  const rows = Object.entries(values).map(([name, v]) => [name, [v].flat()])
  return rows.filter(([, v]) => v.some((n) => Math.abs(n) >= 0.0005)).map(([name, v]) => [name, ...v.map(number)].join(" ")).join(", ")
}
