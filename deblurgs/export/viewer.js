"use strict";
// A viewer of 3-D Gaussians in WebGL2, without any other file. Each Gaussian is drawn as a quad of three standard
// deviations around its projection (EWA splatting, Zwicker et al. 2001), from back to front with alpha blending. The
// order is found in a worker by counting sort on depth. World and camera axes: +x right, +y down, +z forward.
(function () {
  const scene = JSON.parse(document.getElementById("scene").textContent);
  const canvas = document.getElementById("view"), message = document.getElementById("message");
  const byId = (id) => document.getElementById(id);
  function fail(text) { message.textContent = text; message.hidden = false; document.body.dataset.state = "failed"; }

  // ---- Data: 32-byte records as in a .splat file ----
  const text = atob(scene.splats), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const count = bytes.length >> 5, floats = new Float32Array(bytes.buffer);
  const gl = canvas.getContext("webgl2", { antialias: false, alpha: false, preserveDrawingBuffer: true, powerPreference: "high-performance" });
  if (!gl) { fail("This browser cannot show 3-D graphics (WebGL 2 is missing or switched off)."); return; }

  const VERTEX = `#version 300 es
  precision highp float; precision highp usampler2D; precision highp int;
  uniform usampler2D records; uniform mat4 view; uniform vec2 focal; uniform vec2 size; uniform bool mip; uniform float near;
  in vec2 corner; in uint index; out vec4 colour; out vec2 place;
  void main() {
    gl_Position = vec4(0., 0., 2., 1.);
    int at = int(index) * 2;
    uvec4 a = texelFetch(records, ivec2(at & 2047, at >> 11), 0);
    uvec4 b = texelFetch(records, ivec2((at + 1) & 2047, at >> 11), 0);
    vec3 p = (view * vec4(uintBitsToFloat(a.xyz), 1.)).xyz;
    if (p.z < near) return;
    vec2 limit = 1.3 * 0.5 * size / focal;
    vec2 t = clamp(p.xy / p.z, -limit - 0.15, limit + 0.15);
    vec2 centre = p.xy / p.z * focal;
    if (any(greaterThan(abs(centre), 1.6 * 0.5 * size))) return;
    vec3 s = vec3(uintBitsToFloat(a.w), uintBitsToFloat(b.x), uintBitsToFloat(b.y));
    vec4 q = normalize((vec4(b.w & 255u, (b.w >> 8) & 255u, (b.w >> 16) & 255u, b.w >> 24) - 128.) / 128.);
    float w = q.x, x = q.y, y = q.z, z = q.w;
    mat3 turn = mat3(1. - 2. * (y * y + z * z), 2. * (x * y + w * z), 2. * (x * z - w * y),
                     2. * (x * y - w * z), 1. - 2. * (x * x + z * z), 2. * (y * z + w * x),
                     2. * (x * z + w * y), 2. * (y * z - w * x), 1. - 2. * (x * x + y * y));
    mat3 m = mat3(view) * turn * mat3(s.x, 0., 0., 0., s.y, 0., 0., 0., s.z);
    vec3 jx = vec3(focal.x / p.z, 0., -focal.x * t.x / p.z), jy = vec3(0., focal.y / p.z, -focal.y * t.y / p.z);
    vec3 u = jx * m, v = jy * m;
    float xx = dot(u, u), yy = dot(v, v), xy = dot(u, v);
    float before = max(xx * yy - xy * xy, 0.);
    xx += 0.3; yy += 0.3;
    float alpha = float(b.z >> 24) / 255.;
    if (mip) alpha *= sqrt(before / (xx * yy - xy * xy));
    if (alpha < 1. / 255.) return;
    float mid = 0.5 * (xx + yy), gap = length(vec2(0.5 * (xx - yy), xy));
    float l1 = mid + gap, l2 = max(mid - gap, 0.1);
    vec2 axis = gap < 1e-6 ? vec2(1., 0.) : normalize(abs(xx - l1) > abs(yy - l1) ? vec2(xy, l1 - xx) : vec2(l1 - yy, xy));
    // As far out as the Gaussian can still be seen.
    float reach = min(3.4, sqrt(2. * log(255. * alpha)));
    vec2 offset = reach * (corner.x * min(sqrt(l1), 2048.) * axis + corner.y * min(sqrt(l2), 2048.) * vec2(-axis.y, axis.x));
    place = corner * reach;
    colour = vec4(vec3(b.z & 255u, (b.z >> 8) & 255u, (b.z >> 16) & 255u) / 255., alpha);
    vec2 ndc = (centre + offset) / (0.5 * size);
    gl_Position = vec4(ndc.x, -ndc.y, 0., 1.);
  }`;
  const FRAGMENT = `#version 300 es
  precision highp float; in vec4 colour; in vec2 place; out vec4 result;
  void main() {
    float a = min(0.99, colour.a * exp(-0.5 * dot(place, place)));
    if (a < 1. / 255.) discard;
    result = vec4(colour.rgb * a, a);
  }`;
  function shader(kind, source) {
    const s = gl.createShader(kind); gl.shaderSource(s, source); gl.compileShader(s);
    if (!gl.getShaderParameter(s, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(s));
    return s;
  }
  const uniforms = {};
  let indexBuffer, drawn = 0;
  function setUp() {
    const program = gl.createProgram();
    gl.attachShader(program, shader(gl.VERTEX_SHADER, VERTEX));
    gl.attachShader(program, shader(gl.FRAGMENT_SHADER, FRAGMENT));
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    gl.useProgram(program);
    for (const name of ["records", "view", "focal", "size", "mip", "near"]) uniforms[name] = gl.getUniformLocation(program, name);
    const rows = Math.max(1, Math.ceil(count * 2 / 2048)), padded = new Uint32Array(rows * 2048 * 4);
    padded.set(new Uint32Array(bytes.buffer, 0, count * 8));
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32UI, 2048, rows, 0, gl.RGBA_INTEGER, gl.UNSIGNED_INT, padded);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    const corner = gl.getAttribLocation(program, "corner"), index = gl.getAttribLocation(program, "index");
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]), gl.STATIC_DRAW);
    gl.enableVertexAttribArray(corner); gl.vertexAttribPointer(corner, 2, gl.FLOAT, false, 0, 0);
    indexBuffer = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, indexBuffer);
    gl.enableVertexAttribArray(index); gl.vertexAttribIPointer(index, 1, gl.UNSIGNED_INT, 0, 0);
    gl.vertexAttribDivisor(index, 1);
    gl.enable(gl.BLEND); gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA); gl.disable(gl.DEPTH_TEST);
    gl.clearColor(0, 0, 0, 1);
  }
  try { setUp(); } catch (error) { fail("The 3-D view could not start: " + error.message); return; }
  canvas.addEventListener("webglcontextlost", (e) => { e.preventDefault(); });
  canvas.addEventListener("webglcontextrestored", () => { setUp(); order(); });

  // ---- Back to front: counting sort on depth ----
  function sorted(xyz, row) {
    const n = xyz.length / 3, [a, b, c, d] = row, depth = new Float32Array(n);
    let low = Infinity, high = -Infinity;
    for (let i = 0; i < n; i++) {
      const z = a * xyz[3 * i] + b * xyz[3 * i + 1] + c * xyz[3 * i + 2] + d;
      depth[i] = z;
      if (z > 0) { if (z < low) low = z; if (z > high) high = z; }
    }
    // In steps of inverse depth: near Gaussians, which cover most, are told apart best.
    const bins = 65535, far = 1 / high, scale = bins / Math.max(1 / low - far, 1e-12), key = new Uint16Array(n), counts = new Uint32Array(bins + 2);
    let kept = 0;
    for (let i = 0; i < n; i++) if (depth[i] > 0) { key[i] = Math.min(bins, (1 / depth[i] - far) * scale); counts[key[i] + 1]++; kept++; }
    for (let i = 1; i < counts.length; i++) counts[i] += counts[i - 1];
    const order = new Uint32Array(kept);
    for (let i = 0; i < n; i++) if (depth[i] > 0) order[counts[key[i]]++] = i;
    return order;
  }
  const xyz = new Float32Array(count * 3);
  for (let i = 0; i < count; i++) for (let k = 0; k < 3; k++) xyz[3 * i + k] = floats[8 * i + k];
  let worker = null, sorting = false, sortAgain = false;
  try {
    const source = sorted + "; let xyz; onmessage = (e) => { if (e.data.xyz) xyz = e.data.xyz; else { const o = sorted(xyz, e.data.row); postMessage(o, [o.buffer]); } };";
    worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    worker.onmessage = (event) => { sorting = false; show(event.data); if (sortAgain) { sortAgain = false; order(); } };
    worker.onerror = () => { worker = null; order(); };
    worker.postMessage({ xyz: xyz });
  } catch (error) { worker = null; }
  function show(indices) {
    gl.bindBuffer(gl.ARRAY_BUFFER, indexBuffer);
    gl.bufferData(gl.ARRAY_BUFFER, indices, gl.DYNAMIC_DRAW);
    drawn = indices.length; dirty = true;
  }
  function order() {
    const m = camera(), row = [m[2], m[6], m[10], m[14]];
    // The first picture does not wait for the worker; where a local file may have none, all sorting happens here.
    if (!drawn || !worker) { show(sorted(xyz, row)); return; }
    if (sorting) { sortAgain = true; return; }
    sorting = true;
    worker.postMessage({ row: row });
  }

  // ---- Camera: a rotation (world -> camera, rows), the point in the middle and the distance to it ----
  const views = scene.views;
  let R = [1, 0, 0, 0, 1, 0, 0, 0, 1], target = [0, 0, 0], distance = 1, current = 0, dirty = true, moved = true;
  const row = (i) => [R[3 * i], R[3 * i + 1], R[3 * i + 2]];
  function camera() {
    // camera_from_world, column-major. The camera stands `distance` in front of the target.
    const t = [0, 1, 2].map((i) => -(R[3 * i] * target[0] + R[3 * i + 1] * target[1] + R[3 * i + 2] * target[2]));
    t[2] += distance;
    return [R[0], R[3], R[6], 0, R[1], R[4], R[7], 0, R[2], R[5], R[8], 0, t[0], t[1], t[2], 1];
  }
  function goTo(index) {
    current = (index + views.length) % views.length;
    const v = views[current], m = v.camera_from_world;
    R = [m[0], m[1], m[2], m[4], m[5], m[6], m[8], m[9], m[10]];
    distance = scene.depth;
    const c = [0, 1, 2].map((k) => -(m[k] * m[3] + m[4 + k] * m[7] + m[8 + k] * m[11]));
    target = [0, 1, 2].map((k) => c[k] + m[8 + k] * distance);
    byId("where").textContent = v.name + " (" + (current + 1) + "/" + views.length + ")";
    changed();
  }
  function changed() { dirty = true; moved = true; }
  function multiply(a, b) {
    const c = new Array(9);
    for (let i = 0; i < 3; i++) for (let j = 0; j < 3; j++) c[3 * i + j] = a[3 * i] * b[j] + a[3 * i + 1] * b[3 + j] + a[3 * i + 2] * b[6 + j];
    return c;
  }
  function about(axis, angle) {
    const [x, y, z] = axis, c = Math.cos(angle), s = Math.sin(angle), d = 1 - c;
    return [c + x * x * d, x * y * d - z * s, x * z * d + y * s, y * x * d + z * s, c + y * y * d, y * z * d - x * s, z * x * d - y * s, z * y * d + x * s, c + z * z * d];
  }
  function orthonormal(m) {
    const n = (v) => { const l = Math.hypot(...v); return v.map((x) => x / l); };
    const z = n([m[6], m[7], m[8]]), d = m[0] * z[0] + m[1] * z[1] + m[2] * z[2];
    const x = n([m[0] - d * z[0], m[1] - d * z[1], m[2] - d * z[2]]);
    return [...x, z[1] * x[2] - z[2] * x[1], z[2] * x[0] - z[0] * x[2], z[0] * x[1] - z[1] * x[0], ...z];
  }
  function orbit(dx, dy) {
    // Sideways about the scene's own vertical, so that the horizon stays level; up and down about the camera's x axis.
    R = orthonormal(multiply(about([1, 0, 0], dy), multiply(R, about(scene.down, -dx))));
    stopTour(); changed();
  }
  function shift(x, y, z) {
    for (let k = 0; k < 3; k++) target[k] += x * R[k] + y * R[3 + k] + z * R[6 + k];
    stopTour(); changed();
  }
  function dolly(factor) { distance = Math.min(Math.max(distance * factor, 1e-3 * scene.depth), 50 * scene.depth); stopTour(); changed(); }

  const pointers = new Map();
  canvas.addEventListener("pointerdown", (e) => { canvas.setPointerCapture(e.pointerId); pointers.set(e.pointerId, [e.clientX, e.clientY]); canvas.focus(); });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (e) => pointers.delete(e.pointerId));
  canvas.addEventListener("contextmenu", (e) => e.preventDefault());
  canvas.addEventListener("pointermove", (e) => {
    const before = pointers.get(e.pointerId);
    if (!before) return;
    const now = [e.clientX, e.clientY], dx = now[0] - before[0], dy = now[1] - before[1], unit = distance / focalPx();
    if (pointers.size === 1) {
      if (e.buttons & 2 || e.shiftKey) shift(-dx * unit, -dy * unit, 0); else orbit(dx * 0.006, dy * 0.006);
    } else if (pointers.size === 2) {
      const other = [...pointers].find(([id]) => id !== e.pointerId)[1], gap = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
      dolly(gap(before) / Math.max(gap(now), 1)); shift(-dx * unit / 2, -dy * unit / 2, 0);
    }
    pointers.set(e.pointerId, now);
  });
  canvas.addEventListener("wheel", (e) => { e.preventDefault(); dolly(Math.exp(Math.sign(e.deltaY) * Math.min(Math.abs(e.deltaY), 120) * 0.0012)); }, { passive: false });

  const held = new Set(), FLY = { w: [0, 0, 1], s: [0, 0, -1], a: [-1, 0, 0], d: [1, 0, 0], q: [0, 1, 0], e: [0, -1, 0] };
  const TURN = { arrowleft: [1, 0], arrowright: [-1, 0], arrowup: [0, -1], arrowdown: [0, 1] };
  addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || (e.target.tagName === "BUTTON" && (e.key === " " || e.key === "Enter"))) return;
    const key = e.key.toLowerCase();
    if (FLY[key] || TURN[key]) { held.add(key); dirty = true; e.preventDefault(); }
    else if (key === "n") { stopTour(); goTo(current + 1); }
    else if (key === "p") { stopTour(); goTo(current - 1); }
    else if (key === "r") { stopTour(); goTo(0); }
    else if (key === "t") toggleTour();
    else if (key === "h" || key === "?") toggleHelp();
    else if (key === "escape" && !byId("help").hidden) toggleHelp();
  });
  addEventListener("keyup", (e) => held.delete(e.key.toLowerCase()));
  addEventListener("blur", () => held.clear());
  function fly(seconds, fast) {
    for (const key of held) {
      if (FLY[key]) { const d = FLY[key].map((v) => v * seconds * scene.depth * (fast ? 1.5 : 0.5)); shift(d[0], d[1], d[2]); }
      else if (TURN[key]) orbit(TURN[key][0] * seconds, TURN[key][1] * seconds);
    }
  }
  let shiftHeld = false;
  for (const name of ["keydown", "keyup"]) addEventListener(name, (e) => { shiftHeld = e.shiftKey; });

  byId("previous").onclick = () => { stopTour(); goTo(current - 1); };
  byId("next").onclick = () => { stopTour(); goTo(current + 1); };
  byId("keys").onclick = toggleHelp;
  byId("tour").onclick = toggleTour;
  function toggleHelp() { const help = byId("help"); help.hidden = !help.hidden; byId("keys").setAttribute("aria-expanded", String(!help.hidden)); }
  let touring = false, tourAt = 0;
  function stopTour() { if (touring) { touring = false; byId("tour").setAttribute("aria-pressed", "false"); } }
  function toggleTour() { if (touring) { stopTour(); return; } touring = true; tourAt = current; byId("tour").setAttribute("aria-pressed", "true"); dirty = true; }
  function tour(seconds) {
    tourAt += seconds * 1.5;
    const n = views.length, i = Math.floor(tourAt) % n, j = Math.min(i + 1, n - 1), s = tourAt % 1, e = s * s * (3 - 2 * s);
    const a = views[i].camera_from_world, b = views[j].camera_from_world;
    const mix = [0, 1, 2, 4, 5, 6, 8, 9, 10].map((k) => a[k] * (1 - e) + b[k] * e);
    const centre = (m, k) => -(m[k] * m[3] + m[4 + k] * m[7] + m[8 + k] * m[11]);
    R = orthonormal(mix); distance = scene.depth; current = i;
    target = [0, 1, 2].map((k) => centre(a, k) * (1 - e) + centre(b, k) * e + R[6 + k] * distance);
    byId("where").textContent = views[i].name + " (" + (i + 1) + "/" + n + ")";
    changed();
  }

  // ---- Drawing, only when something changed ----
  function focalPx() {
    // The whole photo stays in sight whatever the window's shape.
    const v = views[current];
    return Math.min(canvas.clientWidth / v.width, canvas.clientHeight / v.height) * v.fx;
  }
  let last = performance.now();
  function frame(now) {
    const seconds = Math.min((now - last) / 1000, 0.1); last = now;
    if (held.size) fly(seconds, shiftHeld);
    if (touring) tour(seconds);
    if (moved) { moved = false; order(); }
    const ratio = Math.min(devicePixelRatio || 1, 2), w = Math.max(1, Math.round(canvas.clientWidth * ratio)), h = Math.max(1, Math.round(canvas.clientHeight * ratio));
    if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; dirty = true; }
    if (dirty) {
      dirty = held.size > 0 || touring;
      const f = focalPx() * ratio;
      gl.viewport(0, 0, w, h); gl.clear(gl.COLOR_BUFFER_BIT);
      gl.uniformMatrix4fv(uniforms.view, false, camera());
      gl.uniform2f(uniforms.focal, f, f * views[current].fy / views[current].fx); gl.uniform2f(uniforms.size, w, h); gl.uniform1i(uniforms.mip, scene.antialiased ? 1 : 0);
      gl.uniform1i(uniforms.records, 0); gl.uniform1f(uniforms.near, 0.02 * scene.depth);
      if (drawn) { gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, drawn); document.body.dataset.state = "drawn"; }
    }
    requestAnimationFrame(frame);
  }
  if (count === 0) fail("The scene has no Gaussians.");
  addEventListener("resize", () => { dirty = true; });
  goTo(scene.start || 0);
  requestAnimationFrame(frame);
})();
