// Bars, grouped by case, as an SVG without any script.

const colors = ['#0b6e4f', '#7a8ba3', '#a5b3c4', '#5b6f8c', '#c2ccd8', '#3f5573']
const row = 18
const left = 250
const width = 900

/** @param {Array<{name: string, values: Record<string, number>, unit?: string}>} groups what was measured by tool, milliseconds unless they say; each group has its own scale */
export function chart (title, groups) {
  const lines = []
  let y = 50
  for (const { name, values, unit = 'ms' } of groups) {
    const most = Math.max(...Object.values(values))
    lines.push(`<text x="10" y="${y + 4}" font-weight="bold">${escape(name)}</text>`)
    for (const [index, [tool, ms]] of Object.entries(values).entries()) {
      y += row
      const length = Math.max(1, Math.round(ms / most * (width - left - 100)))
      lines.push(`<text x="${left - 8}" y="${y + 4}" text-anchor="end">${escape(tool)}</text>`,
        `<rect x="${left}" y="${y - 8}" width="${length}" height="13" fill="${colors[index % colors.length]}"/>`,
        `<text x="${left + length + 6}" y="${y + 4}">${ms} ${unit}</text>`)
    }
    y += row * 2
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${y}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/><text x="10" y="24" font-size="15">${escape(title)}</text>${lines.join('')}</svg>\n`
}

function escape (text) {
  return text.replace(/&/g, '&amp;').replace(/</g, '&lt;')
}
