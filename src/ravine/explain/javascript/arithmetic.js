// The vocabulary of rules on numbers and small matrices of doubles, as `ravine.math` defines it.

/** A matrix of doubles or truth values; a vector is a matrix of one row. */
class Matrix {
  constructor(rows, columns, data) {
    this.rows = rows;
    this.columns = columns;
    this.data = data;
  }
  static filled(rows, columns, value) {
    return new Matrix(rows, columns, new Array(rows * columns).fill(value));
  }
  static diagonal(size, value) {
    const made = Matrix.filled(size, size, 0);
    for (let i = 0; i < size; i++) made.data[i * size + i] = value;
    return made;
  }
  at(row, column) {
    return this.data[row * this.columns + column];
  }
}

/** One element of an operand; rows, columns and single numbers are repeated. */
const read = (x, i, j) => (x instanceof Matrix ? x.data[(x.rows === 1 ? 0 : i) * x.columns + (x.columns === 1 ? 0 : j)] : x);

/** A function of numbers for numbers and matrices: of up to three operands, one number of each for every element. */
const mapping = (f) => (a, b, c) => {
  let rows = 0, columns = 0;
  for (const x of [a, b, c]) {
    if (x instanceof Matrix) {
      rows = Math.max(rows, x.rows);
      columns = Math.max(columns, x.columns);
    }
  }
  if (!rows) return f(a, b, c);
  const data = [];
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) data.push(f(read(a, i, j), read(b, i, j), read(c, i, j)));
  return new Matrix(rows, columns, data);
};

const add = mapping((a, b) => a + b);
const subtract = mapping((a, b) => a - b);
const multiply = mapping((a, b) => a * b);
const divide = mapping((a, b) => a / b);
const negative = mapping((a) => -a);
const sqrt = mapping((a) => Math.sqrt(a));
const abs = mapping((a) => Math.abs(a));
const exp = mapping((a) => Math.exp(a));
const log = mapping((a) => Math.log(a));
const sign = mapping((a) => (a > 0 ? 1 : a < 0 ? -1 : a));
const maximum = mapping((a, b) => (a > b || a !== a ? a : b));
const minimum = mapping((a, b) => (a < b || a !== a ? a : b));
const where = mapping((condition, a, b) => (condition ? a : b));
const greater = mapping((a, b) => a > b);
const less = mapping((a, b) => a < b);
const greaterEqual = mapping((a, b) => a >= b);
const lessEqual = mapping((a, b) => a <= b);
const equal = mapping((a, b) => a === b);
const notEqual = mapping((a, b) => a !== b);
const both = mapping((a, b) => a && b);
const either = mapping((a, b) => a || b);
const negation = mapping((a) => !a);

// Host scalars as Python has them: the remainder has the sign of the divisor.
const modulo = (a, b) => { const rest = a % b; return rest !== 0 && rest < 0 !== b < 0 ? rest + b : rest; };
const floorDivide = (a, b) => Math.floor(a / b);

const elements = (x) => (x instanceof Matrix ? x.data : [x]);
const sum = (x) => elements(x).reduce((a, b) => a + Number(b), 0);
const squares = (x) => elements(x).reduce((a, b) => a + b * b, 0);
const mean = (x) => sum(x) / elements(x).length;
const norm = (x) => Math.sqrt(squares(x));
const rms = (x) => Math.sqrt(squares(x) / elements(x).length);
const total = sum;

function rowMean(x) {
  const data = [];
  for (let i = 0; i < x.rows; i++) data.push(mean(new Matrix(1, x.columns, x.data.slice(i * x.columns, (i + 1) * x.columns))));
  return new Matrix(x.rows, 1, data);
}
const columnMean = (x) => transpose(rowMean(transpose(x)));
