// Operations on whole matrices, for the few rows and columns of a page.

function transpose(x) {
  const data = [];
  for (let j = 0; j < x.columns; j++) for (let i = 0; i < x.rows; i++) data.push(x.at(i, j));
  return new Matrix(x.columns, x.rows, data);
}

function matmul(a, b) {
  const data = [];
  for (let i = 0; i < a.rows; i++) {
    for (let j = 0; j < b.columns; j++) {
      let s = 0;
      for (let k = 0; k < a.columns; k++) s += a.at(i, k) * b.at(k, j);
      data.push(s);
    }
  }
  return new Matrix(a.rows, b.columns, data);
}

/** Newton–Schulz: each step maps X to aX + (bA + cA²)X with A = XXᵀ, after X is divided by its norm. */
function orthogonalize(given, safety, tiny, triples) {
  const tall = given.rows > given.columns;
  let x = tall ? transpose(given) : given;
  x = divide(x, safety * norm(x) + tiny);
  for (const [a, b, c] of triples) {
    const gram = matmul(x, transpose(x));
    const polynomial = add(multiply(b, gram), matmul(multiply(c, gram), gram));
    x = add(multiply(a, x), matmul(polynomial, x));
  }
  return tall ? transpose(x) : x;
}

/** Eigenvalues, ascending, and eigenvectors as columns, of a symmetric matrix: Jacobi's rotations. */
function eigen(x) {
  const n = x.rows;
  if (!x.data.every(Number.isFinite)) return [new Array(n).fill(NaN), Matrix.filled(n, n, NaN)];
  const a = x.data.slice(), q = Matrix.diagonal(n, 1).data;
  const rotate = (m, i, j, p, r, c, s) => {
    const u = m[i * n + p], w = m[j * n + r];
    m[i * n + p] = c * u - s * w;
    m[j * n + r] = s * u + c * w;
  };
  for (let sweep = 0; sweep < 60; sweep++) {
    let turned = false;
    for (let p = 0; p < n; p++) {
      for (let r = p + 1; r < n; r++) {
        const off = a[p * n + r];
        if (Math.abs(off) <= 1e-300 || Math.abs(off) < 1e-18 * Math.sqrt(Math.abs(a[p * n + p] * a[r * n + r]))) continue;
        turned = true;
        const theta = (a[r * n + r] - a[p * n + p]) / (2 * off);
        const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1));
        const c = 1 / Math.hypot(t, 1), s = t * c;
        for (let k = 0; k < n; k++) rotate(a, k, k, p, r, c, s);
        for (let k = 0; k < n; k++) rotate(a, p, r, k, k, c, s);
        a[p * n + r] = a[r * n + p] = 0;
        for (let k = 0; k < n; k++) rotate(q, k, k, p, r, c, s);
      }
    }
    if (!turned) break;
  }
  const order = [...Array(n).keys()].sort((i, j) => a[i * n + i] - a[j * n + j]);
  return [order.map((i) => a[i * n + i]), take(new Matrix(n, n, q), order, 1)];
}

const eigenbasis = (x) => { const q = eigen(x)[1]; return take(q, [...Array(q.columns).keys()].reverse(), 1); };

/** x to the power −1/k; no eigenvalue is taken to be smaller than what the largest rounds to. */
function inverseRoot(x, k) {
  const [values, vectors] = eigen(x), n = x.rows;
  const floor = maximum(Number.EPSILON * values[n - 1], 2.2250738585072014e-308);
  const powers = new Matrix(1, n, values.map((value) => Math.pow(value < floor ? floor : value, -1 / k)));
  return matmul(multiply(vectors, powers), transpose(vectors));
}

/** One step of power iteration and QR, the columns ordered by their Rayleigh quotients, largest first. */
function refreshBasis(x, basis) {
  const image = matmul(x, basis), products = multiply(basis, image);
  const quotients = [...Array(basis.columns).keys()].map((j) => sum(take(products, [j], 1)));
  const order = [...quotients.keys()].sort((i, j) => quotients[j] - quotients[i]);
  return [orthonormal(take(image, order, 1)), order];
}

/** Q of the QR decomposition, by Householder's reflections, with the signs that LAPACK gives it. */
function orthonormal(x) {
  const n = x.rows, r = x.data.slice(), q = Matrix.diagonal(n, 1).data;
  for (let j = 0; j < n - 1; j++) {
    let below = 0;
    for (let i = j + 1; i < n; i++) below = Math.hypot(below, r[i * n + j]);
    if (below === 0) continue;
    const alpha = r[j * n + j], beta = alpha < 0 || Object.is(alpha, -0) ? Math.hypot(alpha, below) : -Math.hypot(alpha, below);
    const v = new Array(n).fill(0), tau = (beta - alpha) / beta;
    v[j] = 1;
    for (let i = j + 1; i < n; i++) v[i] = r[i * n + j] / (alpha - beta);
    for (let k = 0; k < n; k++) {
      let inR = 0, inQ = 0;
      for (let i = j; i < n; i++) { inR += v[i] * r[i * n + k]; inQ += q[k * n + i] * v[i]; }
      for (let i = j; i < n; i++) { r[i * n + k] -= tau * inR * v[i]; q[k * n + i] -= tau * inQ * v[i]; }
    }
  }
  return new Matrix(n, n, q);
}

const part = (pair, i) => pair[i];

/** Rows (axis 0) or columns (axis 1) in this order. */
function take(x, order, axis) {
  if (axis === 0) return transpose(take(transpose(x), order, 1));
  const data = [];
  for (let i = 0; i < x.rows; i++) for (const j of order) data.push(x.at(i, j));
  return new Matrix(x.rows, order.length, data);
}
