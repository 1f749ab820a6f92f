"""The renderer's shaders (GLSL 3.3): skin, eyes, teeth, hair, shadow depth, and the development of the picture."""

_COLLAR = """
uniform float cloth_line; uniform int neckline;
// Decimetres above (+) or below (-) the collar's edge at a rest position.
float above_collar(vec3 r) {
  float front = smoothstep(-0.2, 1.0, r.z), line = cloth_line;
  if (neckline == 0) line += 0.16 * cos(r.x * 1.7) - 0.42 * front;
  if (neckline == 1) line += 0.12 - 0.35 * front - front * max(0.0, 0.75 - 1.1 * abs(r.x));
  if (neckline == 2) line -= 0.16 + 0.08 * front;
  if (neckline == 3) line += -0.12 * cos(r.x) - 0.45 * front;
  return r.y - line;
}
"""

VERTEX = (
    """#version 330
in vec3 position; in vec3 normal; in vec2 uv; in vec3 rest;
uniform mat4 camera, light_camera; uniform mat3 head, torso; uniform vec3 pivot; uniform float rigid, cloth;
out vec3 P, N, R; out vec2 T; out vec4 L;
"""
    + _COLLAR
    + """
void main() {
  vec3 p = position + normal * cloth * 0.045 * smoothstep(0.02, -0.03, above_collar(rest));
  float w = rigid > 0.5 ? 1.0 : smoothstep(5.3, 6.05, rest.y);
  p = mix(torso * (p - pivot), head * (p - pivot), w) + pivot;
  P = p; N = mix(torso * normal, head * normal, w); T = uv; R = rest;
  L = light_camera * vec4(p, 1); gl_Position = camera * vec4(p, 1);
}"""
)

_LIGHT = """#version 330
in vec3 P, N, R; in vec2 T; in vec4 L; out vec4 color;
uniform sampler2D image, image_2, shadows; uniform vec3 eye, sky, ground;
uniform vec3 key, key_color, fill, fill_color, rim, rim_color; uniform vec3 tint; uniform int translucent; uniform float texel;
vec3 linear(vec3 c) { return pow(c, vec3(2.2)); }
float hash(vec3 p) { return fract(sin(dot(p, vec3(12.9898, 78.233, 37.719))) * 43758.5453); }
float noise(vec3 p) {
  vec3 i = floor(p), f = fract(p); f = f * f * (3.0 - 2.0 * f);
  vec4 a = vec4(hash(i), hash(i + vec3(1,0,0)), hash(i + vec3(0,1,0)), hash(i + vec3(1,1,0)));
  vec4 b = vec4(hash(i + vec3(0,0,1)), hash(i + vec3(1,0,1)), hash(i + vec3(0,1,1)), hash(i + vec3(1,1,1)));
  vec4 c = mix(a, b, f.z); return mix(mix(c.x, c.y, f.x), mix(c.z, c.w, f.x), f.y);
}
float lit(float bias) {  // share of the key light that arrives
  vec3 q = L.xyz / L.w * 0.5 + 0.5; float s = 0.0;
  for (int i = -1; i <= 1; i++) for (int j = -1; j <= 1; j++)
    s += q.z - bias < texture(shadows, q.xy + vec2(i, j) * 1.6 * texel).r ? 1.0 : 0.0;
  return s / 9.0;
}
vec3 ambient(vec3 n) { return mix(ground, sky, n.y * 0.5 + 0.5); }
float glint(vec3 n, vec3 l, vec3 v, float power) {
  return pow(max(dot(n, normalize(l + v)), 0.0), power) * (power + 8.0) / 25.0 * max(dot(n, l), 0.0);
}
"""

SKIN = (
    _LIGHT
    + _COLLAR
    + """
uniform float mix_2, contrast, beard, freckles, blush, oil; uniform vec3 mean, mean_2, tone, lip, hair_tint, shirt, shirt_2;
uniform int pattern; uniform vec3 mouth, eyes, cheek_left, scalp_tint; uniform float stubble;
vec3 cloth_color() {
  float weave = 0.93 + 0.14 * noise(R * 90.0), s = 0.0;
  if (pattern == 1) s = smoothstep(-0.1, 0.1, sin(R.y * 22.0));
  if (pattern == 2) s = 0.5 * step(0.0, sin(R.x * 17.0)) + 0.5 * step(0.0, sin(R.y * 17.0));
  if (pattern == 3) s = smoothstep(0.4, 0.62, noise(R * 5.0) * 0.7 + 0.3 * noise(R * 14.0));
  return mix(shirt, shirt_2, s) * weave;
}
void main() {
  vec3 n = normalize(N), v = normalize(eye - P); float shade = lit(0.006), near = 1.0, C = above_collar(R);
  bool cloth = C < 0.0;
  vec3 a = pow(linear(texture(image, T).rgb) / mean, vec3(contrast)), b = pow(linear(texture(image_2, T).rgb) / mean_2, vec3(contrast));
  vec3 relative = mix(a, b, mix_2), albedo = tone * clamp(relative, 0.0, 2.2);
  float red = clamp((relative.r / max(relative.g, 0.02) - 1.25) * 2.0, 0.0, 1.0);
  vec2 from_mouth = (R.xy - mouth.xy) * vec2(1.0, 1.4); float at_mouth = smoothstep(0.42, 0.28, length(from_mouth)) * step(mouth.z - 0.6, R.z);
  albedo *= mix(vec3(1), lip, red * at_mouth);
  float cheek = exp(-8.0 * dot(R - cheek_left, R - cheek_left)) + exp(-8.0 * dot(R * vec3(-1, 1, 1) - cheek_left, R * vec3(-1, 1, 1) - cheek_left));
  albedo *= mix(vec3(1), vec3(1.08, 0.80, 0.80), blush * min(cheek, 1.0));
  if (freckles > 0.0) albedo *= mix(vec3(1), vec3(0.74, 0.6, 0.5), freckles * smoothstep(0.66, 0.8, noise(R * 34.0)) * smoothstep(0.75, 0.2, abs(R.y - cheek_left.y)));
  if (beard > 0.0) {
    float side = abs(R.x), line = mouth.y + 0.22 + 1.1 * max(0.0, side - 0.38);
    float area = smoothstep(0.10, -0.12, R.y - line) * smoothstep(mouth.y - 1.0, mouth.y - 0.5, R.y + 0.35 * R.z - 0.3) * smoothstep(0.05, 0.5, R.z);
    area *= 1.0 - red * at_mouth;
    area *= mix(1.0, smoothstep(0.13, 0.26, length((R.xy - mouth.xy) * vec2(0.42, 1.0))), smoothstep(0.55, 0.25, side));
    float strands = 0.55 + 0.6 * noise(vec3(R.x * 90.0, R.y * 34.0, R.z * 90.0)) + 0.25 * (noise(R * 12.0) - 0.5);
    albedo = mix(albedo, hair_tint * 1.2 + 0.12 * tone, clamp(area * beard * strands * 1.1, 0.0, 0.93));
  }
  if (stubble > 0.0) {
    float line = eyes.y + mix(-0.5, 1.0, smoothstep(-0.25, 1.0, R.z)) + 0.12 * noise(R * 7.0);
    albedo = mix(albedo, scalp_tint * 1.1 + 0.1 * tone, stubble * 0.85 * smoothstep(0.0, 0.22, R.y - line) * (0.75 + 0.35 * noise(R * 70.0)));
  }
  if (cloth) { albedo = cloth_color(); float hem = smoothstep(-0.10, -0.085, C); albedo *= 1.0 - 0.18 * hem * smoothstep(0.0, -0.02, C); }
  else near = 1.0 - 0.45 * smoothstep(0.10, 0.0, C);
  near *= mix(1.0, 0.55, smoothstep(0.5, -0.1, R.z) * smoothstep(mouth.y + 0.2, mouth.y - 0.6, R.y) * (cloth ? 0.0 : 1.0));
  float d = dot(n, key); vec3 wrap = cloth ? vec3(0.08) : vec3(0.30, 0.15, 0.10);
  vec3 soft = clamp((d + wrap) / (1.0 + wrap), 0.0, 1.0), tinge = cloth ? vec3(shade) : pow(vec3(shade), vec3(0.75, 1.0, 1.1));
  soft *= mix(vec3(1), tinge, smoothstep(-0.2, 0.15, d));
  vec3 light = soft * key_color + max(dot(n, fill) * 0.8 + 0.2, 0.0) * fill_color + max(dot(n, rim), 0.0) * rim_color + ambient(n) * near;
  vec3 r = albedo * light;
  if (!cloth) {
    float edge = pow(1.0 - max(dot(n, v), 0.0), 4.0), bump = 0.8 + 0.4 * noise(R * 45.0);
    r += oil * bump * (key_color * shade * (0.05 * glint(n, key, v, 14.0) + 0.035 * glint(n, key, v, 55.0)) + 0.03 * fill_color * glint(n, fill, v, 14.0));
    r += (0.02 + 0.22 * edge) * 0.5 * near * ambient(reflect(-v, n)) + rim_color * edge * 0.12 * max(dot(n, rim) + 0.2, 0.0);
  }
  color = vec4(r, 1);
}"""
)

EYES = (
    _LIGHT
    + """
uniform vec3 window;
void main() {
  vec4 c = texture(image, T); vec3 n = normalize(N), v = normalize(eye - P);
  if (translucent == 0 ? c.a < 0.5 : c.a >= 0.5) discard;
  float shade = lit(0.02), lid = mix(0.38, 1.0, smoothstep(0.62, -0.15, n.y));
  vec3 albedo = linear(c.rgb); float from_pupil = min(length(T - vec2(0.703, 0.707)), length(T - vec2(0.293, 0.297)));
  float detail = dot(albedo, vec3(0.3, 0.6, 0.1)) / 0.22, iris = smoothstep(0.124, 0.112, from_pupil);
  vec3 ring = tint * mix(vec3(1.25, 1.15, 0.95), vec3(0.8), smoothstep(0.04, 0.1, from_pupil)) * detail;
  albedo = mix(albedo * vec3(0.84, 0.81, 0.79), ring, iris);
  float d = clamp(dot(n, key) * 0.7 + 0.3, 0.0, 1.0);
  vec3 light = (d * shade * key_color + max(dot(n, fill) * 0.6 + 0.4, 0.0) * fill_color + ambient(n)) * lid;
  float spark = min(glint(n, key, v, 350.0) * 0.06, 1.2) * mix(0.35, 1.0, shade), pane = smoothstep(0.982, 0.992, dot(reflect(-v, n), window));
  vec3 shine = key_color * spark + (sky + 0.3 * fill_color) * pane * 0.5 + ambient(reflect(-v, n)) * (0.025 + 0.25 * pow(1.0 - max(dot(n, v), 0.0), 4.0)) * lid;
  if (translucent == 1) { float s = clamp(max(shine.r, max(shine.g, shine.b)), 0.0, 1.0); color = vec4(shine / max(s, 0.01), s); }
  else color = vec4(albedo * light + shine, 1);
}"""
)

MOUTH = (
    _LIGHT
    + """
uniform vec3 mouth;
void main() {
  if (abs(R.y - mouth.y) > 0.3) discard;  // gums must not show through the cheeks of a wide smile
  vec4 c = texture(image, T); vec3 n = normalize(N), v = normalize(eye - P);
  float deep = smoothstep(mouth.z - 0.3, mouth.z + 0.1, R.z), shade = lit(0.01);
  vec3 light = key_color * shade * clamp(dot(n, key) * 0.7 + 0.3, 0.0, 1.0) * 0.8 + (ambient(n) + 0.6 * fill_color) * 0.6;
  vec3 wet = key_color * shade * glint(n, key, v, 60.0) * 0.06;
  color = vec4((linear(c.rgb) * tint * light + wet) * mix(0.2, 1.0, deep), 1);
}"""
)

HAIR = (
    _LIGHT
    + """
uniform float gray, density, cut, gloss; uniform mat3 head;
void main() {
  vec4 c = texture(image, T); c.a *= density; vec3 n = normalize(N), v = normalize(eye - P);
  c.a *= smoothstep(cut - 0.12, cut + 0.05, R.y + 0.1 * noise(vec3(T * 260.0, 0.0)));
  if (translucent == 0 ? c.a < 0.6 : (c.a >= 0.6 || c.a < 0.08)) discard;
  n = normalize(mix(dot(n, v) < 0.0 ? -n : n, head * normalize(R - vec3(0.0, 7.0, 0.25)), 0.65));  // cards shade as one round mass
  float tone_ = dot(linear(c.rgb), vec3(0.3, 0.5, 0.2)) / gray;
  vec3 albedo = tint * min(clamp(mix(1.0, tone_, 0.8), 0.12, 2.4), 0.75 / max(tint.r, 0.01));
  vec3 fall = head * vec3(R.x * 0.7, -1.0, 0.35 * R.z), along = normalize(fall - n * dot(n, fall) + 1e-4), h = normalize(key + v);
  float th = dot(along, h), sheen = pow(sqrt(max(1.0 - th * th, 0.0)), 60.0), shade = lit(0.014), d = dot(n, key);
  float diffuse = clamp(d * 0.75 + 0.25, 0.0, 1.0) * mix(1.0, shade, 0.9);
  vec3 light = diffuse * key_color + max(dot(n, fill) * 0.7 + 0.3, 0.0) * fill_color + ambient(n) * mix(0.5, 1.0, tone_ * 0.5) + max(dot(n, rim), 0.0) * rim_color;
  vec3 shine = gloss * tone_ * ((0.35 * albedo + 0.035) * sheen * shade * key_color * smoothstep(-0.1, 0.5, d) + (0.04 + albedo) * 0.5 * pow(1.0 - abs(dot(n, v)), 3.0) * rim_color);
  color = vec4(albedo * light + shine, translucent == 0 ? 1.0 : c.a);
}"""
)

SHADOW_VERTEX = VERTEX.replace("gl_Position = camera * vec4(p, 1)", "gl_Position = L")
SHADOW_FRAGMENT = """#version 330
in vec2 T; in vec3 R; uniform sampler2D image; uniform int cutout; uniform float cut;
void main() { if (cutout == 1 && (texture(image, T).a < 0.5 || R.y < cut)) discard; }"""

SCREEN_VERTEX = """#version 330
in vec2 corner; out vec2 T; void main() { T = corner * 0.5 + 0.5; gl_Position = vec4(corner, 0, 1); }"""
DEVELOP = """#version 330
in vec2 T; out vec4 color; uniform sampler2D scene, backdrop; uniform float exposure, contrast, saturation, vignette, blur, pixel;
uniform vec3 white;
vec3 at(vec2 t) { vec4 s = texture(scene, t); return s.rgb + max(1.0 - s.a, 0.0) * texture(backdrop, t).rgb; }
void main() {
  vec3 c = vec3(0); float sum = 0.0; int reach = blur > 0.0 ? 2 : 1;
  for (int i = -reach; i <= reach; i++) for (int j = -reach; j <= reach; j++) {
    float w = exp(-float(i * i + j * j) / (2.0 * (0.22 + blur * blur * 2.0))); sum += w; c += w * at(T + vec2(i, j) * pixel * 0.5); }
  c *= exposure * white / sum; vec2 d = T - 0.5; c *= 1.0 - vignette * dot(d, d) * 1.6;
  c = mix(vec3(dot(c, vec3(0.25, 0.65, 0.10))), c, saturation);
  c = max(c, 0.0); c = 1.45 * c / (1.0 + 0.75 * c);   // a film's shoulder
  c = pow(clamp(c, 0.0, 1.0), vec3(1.0 / 2.2)); c = clamp((c - 0.45) * contrast + 0.45, 0.0, 1.0);
  color = vec4(c, 1);
}"""
