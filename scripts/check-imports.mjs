// Checks that the rooms of the house know only the rooms they may know. The rules are the tables below; the reasons are in CONTRIBUTING.md.
// node scripts/check-imports.mjs [FOLDER]   FOLDER holds src/; by default this repository.
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { builtinModules } from 'node:module'
import { basename, dirname, join, resolve } from 'node:path'
import ts from 'typescript'

const agent = ['api', 'errors', 'auth', 'location', 'system', 'qemu', 'sanlock', 'tasks', 'events', 'storage', 'gluster', 'http', 'metrics', 'config']

/**
 * Each room: a file without its extension, or a folder (the longest that fits counts), with what it may import at run time and, beyond
 * that, as types only. Every room may import itself, and types from `api`. A room that is not here is itself a violation.
 */
const rooms = {
  main: { may: ['serve'] },
  serve: { may: ['app', ...agent] },
  reload: { types: ['auth', 'config'] },
  app: { may: ['reload', ...agent], types: ['storage/domain', 'storage/copy'] },
  config: { may: ['api', 'errors', 'auth'] },
  unprintable: {},
  errors: {},
  location: {},
  api: {},
  // A leaf, so that the command line can make tokens without the agent.
  auth: { may: ['errors'] },
  http: { may: ['api', 'errors', 'auth', 'location', 'tasks', 'events', 'storage', 'gluster'], types: ['config'] },
  tasks: { may: ['api', 'errors'], types: ['events'] },
  events: { may: ['api', 'errors'] },
  // The agent's side of storage talks to its children over IPC: it may know their types, never load their file I/O.
  storage: { may: ['api', 'errors', 'location', 'system', 'qemu', 'sanlock'], types: ['tasks', 'config', 'storage/domain', 'storage/copy'] },
  'storage/domain': { may: ['api', 'errors', 'system', 'qemu', 'sanlock', 'storage'] },
  'storage/copy': { may: ['api', 'errors', 'system', 'qemu', 'sanlock', 'storage'] },
  gluster: { may: ['api', 'errors', 'location', 'system'], types: ['tasks', 'config', 'gluster/brick'] },
  // A process of its own, which does the file I/O on a brick.
  'gluster/brick': { may: ['system'] },
  metrics: { may: ['api'], types: ['storage'] },
  qemu: { may: ['api', 'errors', 'system'] },
  sanlock: { may: ['system'] },
  system: { may: ['errors', 'location'] },
  client: {},
  cli: { may: ['client', 'auth'] },
  // `vdsm-tasks serve` becomes the agent, and only then is the agent loaded.
  'cli/main': { may: ['cli', 'serve'] },
  web: {}
}

/** A leaf that every room may import: text that others wrote goes in and out everywhere. */
const everywhere = 'unprintable'

/** Packages that only some rooms or files may know, also for their types. */
const packages = [
  { name: 'fastify', matches: /^(@fastify\/|fastify)/, only: ['app', 'http', 'events/stream'] },
  { name: 'undici', matches: /^undici$/, only: ['client'] },
  { name: 'prom-client', matches: /^prom-client$/, only: ['metrics'] },
  { name: 'commander', matches: /^commander$/, only: ['cli'] },
  { name: 'execa', matches: /^execa$/, only: ['system'] },
  { name: 'node:child_process', matches: /^node:child_process$/, only: ['system', 'cli/reader'] },
  { name: 'node:process', matches: /^node:process$/, only: ['system', 'serve', '**/main'] },
  { name: 'vdsm-tasks', matches: /^vdsm-tasks$/, only: [] }
]

/** The global `process` belongs to the mains, which hand on what the others need of it. */
const processOnly = ['system', 'serve', '**/main']

/** What makes bytes and names durable. In one place, because the order of these calls is what survives a crash. */
const durableOnly = ['system']
const durable = /^(fsync|fdatasync|rename|link)(Sync)?$/
const durableMethods = /^(sync|datasync)$/

const top = resolve(process.argv[2] ?? dirname(import.meta.dirname))
const src = join(top, 'src')
const files = existsSync(src) ? readdirSync(src, { recursive: true }).filter(name => name.endsWith('.ts')).sort() : []
const violations = []
const runtimeImports = new Map()

for (const file of files) checkFile(file)
checkCycles()
for (const { file, line, text } of violations) console.log(`src/${file}:${line} ${text}`)
console.log(`import rules: ${files.length} files checked, ${violations.length === 0 ? 'no violations' : `${violations.length} violations`}`)
// A run that looked at nothing has shown nothing.
process.exitCode = violations.length > 0 || files.length === 0 ? 1 : 0

function checkFile (file) {
  const tree = ts.createSourceFile(file, readFileSync(join(src, file), 'utf8'), ts.ScriptTarget.Latest, true)
  const lineOf = node => tree.getLineAndCharacterOfPosition(node.getStart(tree)).line + 1
  const report = (node, text) => violations.push({ file, line: lineOf(node), text })
  const room = roomOf(file)
  runtimeImports.set(file, [])
  if (room === undefined) report(tree, 'is in no room: give its folder a row in scripts/check-imports.mjs')
  if (basename(file) === 'index.ts') report(tree, 'is an index file: import from the file that has the thing')

  const fsNames = new Set()
  let knowsFs = false
  visit(tree, node => {
    const found = importIn(node)
    if (found !== undefined) {
      const { specifier, typeOnly } = found
      if (specifier.startsWith('.')) checkRoom(node, specifier, typeOnly)
      else checkPackage(node, specifier)
      if (/^node:fs(\/promises)?$/.test(withNode(specifier))) {
        knowsFs = true
        checkFsImport(node)
      }
    }
    if (isDefaultExport(node)) report(node, 'is a default export: use named exports, so that a thing has one name everywhere')
    if (isGlobalProcess(node) && !isIn(file, processOnly)) report(node, 'uses the global process: only system/, serve.ts and files named main.ts may; take what you need as an argument')
    if (ts.isPropertyAccessExpression(node) && !isIn(file, durableOnly)) checkDurable(node)
  })

  function checkRoom (node, specifier, typeOnly) {
    const target = join(dirname(file), specifier)
    if (target.startsWith('..')) return // package.json and the like: no room of this house.
    if (!typeOnly && files.includes(target)) runtimeImports.get(file).push({ target, line: lineOf(node) })
    const targetRoom = roomOf(target)
    if (room === undefined || targetRoom === undefined || targetRoom === everywhere || (targetRoom === room && room !== 'errors')) return
    const { may = [], types = [] } = rooms[room]
    if (may.includes(targetRoom) || (typeOnly && [...types, 'api'].includes(targetRoom))) return
    const allowed = [...may, ...[...types, ...(may.includes('api') ? [] : ['api'])].map(name => `types of ${name}`)]
    report(node, `imports src/${target}: ${room} may import only ${allowed.join(', ')}`)
  }

  function checkPackage (node, specifier) {
    if (room === 'errors') report(node, `imports ${specifier}: errors imports only src/unprintable.ts`)
    const name = withNode(specifier).replace(/^((?:@[^/]+\/)?[^/]+).*/, '$1')
    const rule = packages.find(({ matches }) => matches.test(name))
    if (rule !== undefined && !isIn(file, rule.only)) {
      report(node, `imports ${specifier}: ${rule.only.length === 0 ? `nothing in src may import ${rule.name}` : `only ${rule.only.join(', ')} may know ${rule.name}`}`)
    }
  }

  function checkFsImport (node) {
    const clause = ts.isImportDeclaration(node) ? node.importClause : undefined
    if (clause?.name) fsNames.add(clause.name.text)
    const bindings = clause?.namedBindings ?? (ts.isExportDeclaration(node) ? node.exportClause : undefined)
    if (bindings === undefined) return
    if (!('elements' in bindings)) {
      fsNames.add(bindings.name.text)
      return
    }
    for (const element of bindings.elements) {
      const original = (element.propertyName ?? element.name).text
      if (original === 'promises') fsNames.add(element.name.text)
      if (durable.test(original) && !isIn(file, durableOnly)) report(element, notDurable(original))
    }
  }

  function checkDurable (node) {
    const name = node.name.text
    let object = node.expression
    while (ts.isPropertyAccessExpression(object)) object = object.expression
    const onFs = durable.test(name) && ts.isIdentifier(object) && fsNames.has(object.text)
    const onHandle = durableMethods.test(name) && knowsFs && ts.isCallExpression(node.parent) && node.parent.expression === node
    if (onFs || onHandle) report(node, notDurable(name))
  }
}

function notDurable (name) {
  return `uses ${name}: only ${durableOnly.join(', ')} may; the order of fsync, rename and link is what survives a crash`
}

function roomOf (file) {
  const name = file.replace(/(\.d)?\.ts$/, '')
  const parts = name.split('/')
  for (let length = parts.length; length > 0; length--) {
    const room = parts.slice(0, length).join('/')
    if (room in rooms) return room
  }
  return undefined
}

/** Whether a file is one of these rooms or files; a leading star stands for any folder or none. */
function isIn (file, places) {
  const name = file.replace(/\.ts$/, '')
  return places.some(place => place.startsWith('**/')
    ? basename(name) === place.slice(3)
    : name === place || name.startsWith(`${place}/`))
}

function visit (node, look) {
  look(node)
  ts.forEachChild(node, child => visit(child, look))
}

/** With verbatimModuleSyntax `import { type A }` still loads the module: only `import type` and `export type` do not. */
function importIn (node) {
  const text = literal => literal !== undefined && ts.isStringLiteralLike(literal) ? literal.text : undefined
  let specifier
  let typeOnly = false
  if (ts.isImportDeclaration(node)) {
    specifier = text(node.moduleSpecifier)
    typeOnly = node.importClause?.isTypeOnly ?? false
  } else if (ts.isExportDeclaration(node)) {
    specifier = text(node.moduleSpecifier)
    typeOnly = node.isTypeOnly
  } else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
    specifier = text(node.argument.literal)
    typeOnly = true
  } else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
    specifier = text(node.arguments[0])
  }
  return specifier === undefined ? undefined : { specifier, typeOnly }
}

function withNode (specifier) {
  return builtinModules.includes(specifier) ? `node:${specifier}` : specifier
}

function isDefaultExport (node) {
  return ts.isExportAssignment(node) ||
    (ts.isExportSpecifier(node) && node.name.text === 'default') ||
    (ts.canHaveModifiers(node) && (ts.getModifiers(node) ?? []).some(({ kind }) => kind === ts.SyntaxKind.DefaultKeyword))
}

function isGlobalProcess (node) {
  if (!ts.isIdentifier(node) || node.text !== 'process') return false
  const { parent } = node
  if (ts.isPropertyAccessExpression(parent) && parent.name === node) return ts.isIdentifier(parent.expression) && parent.expression.text === 'globalThis'
  const isName = 'name' in parent && parent.name === node && !ts.isShorthandPropertyAssignment(parent)
  const isKey = 'propertyName' in parent && parent.propertyName === node
  return !isName && !isKey && !isTypeName(node) && !isDeclaredAround(node)
}

function isTypeName (node) {
  return ts.isTypeReferenceNode(node.parent) || (ts.isQualifiedName(node.parent) && node.parent.right === node)
}

/** Whether some enclosing scope declares its own `process`: a variable for a child process is no business of this rule. */
function isDeclaredAround (node) {
  for (let scope = node.parent; scope !== undefined; scope = scope.parent) {
    const declarations = [
      ...(ts.isFunctionLike(scope) ? scope.parameters : []),
      ...(ts.isForStatement(scope) || ts.isForOfStatement(scope) || ts.isForInStatement(scope) ? variablesOf(scope.initializer) : []),
      ...('statements' in scope ? scope.statements.flatMap(statement => ts.isVariableStatement(statement) ? variablesOf(statement.declarationList) : [statement]) : []),
      ...(ts.isCatchClause(scope) && scope.variableDeclaration ? [scope.variableDeclaration] : [])
    ]
    if (declarations.some(declares)) return true
  }
  return false
}

function variablesOf (list) {
  return list !== undefined && ts.isVariableDeclarationList(list) ? list.declarations : []
}

function declares (declaration) {
  // An import counts as none: what it brings in under this name is checked as an import.
  const name = declaration.name
  if (name === undefined) return false
  return ts.isObjectBindingPattern(name) || ts.isArrayBindingPattern(name) ? name.elements.some(declares) : name.text === 'process'
}

/** Reports each cycle once, at the import that closes it, with the whole way round. */
function checkCycles () {
  const finished = new Set()
  const way = []
  const follow = file => {
    way.push(file)
    for (const { target, line } of runtimeImports.get(file)) {
      if (way.includes(target)) {
        const cycle = [...way.slice(way.indexOf(target)), target]
        violations.push({ file, line, text: `imports src/${target}: that closes a cycle, ${cycle.map(name => `src/${name}`).join(' -> ')}` })
      } else if (!finished.has(target)) follow(target)
    }
    way.pop()
    finished.add(file)
  }
  for (const file of files) if (!finished.has(file)) follow(file)
}
