/** The assertions of tap that compare with a pattern, in which `[]` matches every array and `{}` every object. */
const assertions = new Set(['match', 'notMatch', 'matchOnly', 'matchStrict', 'matchOnlyStrict', 'has', 'notHas', 'hasStrict', 'throws', 'rejects', 'emits'])

/** Refuses an assertion that cannot fail: an empty array or object in the pattern of `t.match`, however deep. */
export const emptyPattern = {
  meta: {
    type: 'problem',
    schema: [],
    messages: {
      array: '[] matches every array here. Use Empty (test/helpers/empty.ts) or t.strictSame.',
      object: '{} matches every object here. Use Object for "any object", or t.strictSame.'
    }
  },
  create (context) {
    return {
      CallExpression ({ callee, arguments: [, pattern] }) {
        if (callee.type !== 'MemberExpression' || !assertions.has(callee.property.name) || pattern === undefined) return
        for (const node of emptyIn(pattern, context.sourceCode.getScope(pattern))) {
          context.report({ node, messageId: node.type === 'ArrayExpression' ? 'array' : 'object' })
        }
      }
    }
  }
}

/** What is empty in a pattern, and in the constants that it names. What it gets from functions is not looked at. */
function * emptyIn (node, scope, seen = new Set()) {
  if (seen.has(node)) return
  seen.add(node)
  switch (node.type) {
    case 'ArrayExpression':
      if (node.elements.length === 0) yield node
      for (const element of node.elements) if (element !== null) yield * emptyIn(element, scope, seen)
      break
    case 'ObjectExpression':
      if (node.properties.length === 0) yield node
      for (const property of node.properties) yield * emptyIn(property.type === 'Property' ? property.value : property, scope, seen)
      break
    case 'SpreadElement':
      // nothing is compared with what is spread itself, only with what is in it
      if (!isEmpty(node.argument)) yield * emptyIn(node.argument, scope, seen)
      break
    case 'ConditionalExpression':
      yield * emptyIn(node.consequent, scope, seen)
      yield * emptyIn(node.alternate, scope, seen)
      break
    case 'LogicalExpression':
      yield * emptyIn(node.left, scope, seen)
      yield * emptyIn(node.right, scope, seen)
      break
    case 'TSAsExpression':
    case 'TSSatisfiesExpression':
    case 'TSNonNullExpression':
      yield * emptyIn(node.expression, scope, seen)
      break
    case 'Identifier': {
      const value = constant(node.name, scope)
      if (value !== undefined) yield * emptyIn(value, scope, seen)
    }
  }
}

function isEmpty (node) {
  return (node.type === 'ObjectExpression' && node.properties.length === 0) || (node.type === 'ArrayExpression' && node.elements.length === 0)
}

/** The value that a constant is given where it is declared. */
function constant (name, scope) {
  for (let at = scope; at !== null; at = at.upper) {
    const definition = at.set.get(name)?.defs[0]
    if (definition === undefined) continue
    const { type, node, parent } = definition
    return type === 'Variable' && parent.kind === 'const' && node.id.type === 'Identifier' ? node.init ?? undefined : undefined
  }
  return undefined
}
