const drawn = JSON.parse(document.getElementById('drawn').textContent)
const dark = matchMedia('(prefers-color-scheme: dark)')
const shown = Object.fromEntries(drawn.charts.map(chart => [chart.id, 0]))

function recoloured(value) {
  if (Array.isArray(value)) return value.map(recoloured)
  if (value && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, recoloured(inner)]))
  }
  return drawn.recolouring[value] ?? value
}

function draw(chart) {
  const figure = chart.views[shown[chart.id]]
  const data = figure.data.map(trace => dark.matches ? { ...trace, line: recoloured(trace.line) } : trace)
  const layout = {
    ...figure.layout, template: dark.matches ? drawn.themes.dark : drawn.themes.light, showlegend: chart.legend !== null,
  }
  Plotly.react(chart.id, data, layout, { responsive: true, displaylogo: false, displayModeBar: 'hover' })
}

document.querySelectorAll('button[data-chart]').forEach(button => button.addEventListener('click', () => {
  shown[button.dataset.chart] = Number(button.dataset.view)
  document.querySelectorAll(`button[data-chart="${button.dataset.chart}"]`)
    .forEach(other => other.setAttribute('aria-pressed', other === button))
  draw(drawn.charts.find(chart => chart.id === button.dataset.chart))
}))
dark.addEventListener('change', () => drawn.charts.forEach(draw))
drawn.charts.forEach(draw)
