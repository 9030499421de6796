/** An array without elements, in the pattern of `t.match`: a literal `[]` there matches every array, whatever is in it. */
export class Empty {
  static [Symbol.hasInstance] (value: unknown): boolean {
    return Array.isArray(value) && value.length === 0
  }
}
