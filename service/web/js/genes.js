/** From the id of a subnet to its genes: the id is the rank of its genotype in the space, in base 32. */

/** @typedef {import("./types.js").Space} Space */

const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz";

/**
 * The value of each gene by name, null where the id is not one of this space.
 * @param {Space} space
 * @param {string} id such as `salnas-0k3v9w2ta`; its last character checks the others
 * @returns {Object<string, number|number[]>|null}
 */
export function genesOf(space, id) {
  const code = id.slice(id.lastIndexOf("-") + 1, -1);
  let rank = 0;
  for (const letter of code) {
    const digit = ALPHABET.indexOf(letter);
    if (digit < 0) return null;
    rank = rank * 32 + digit;
  }
  if (!code || rank >= space.size) return null;
  /** @type {Object<string, number|number[]>} */
  const values = {};
  for (const gene of [...space.genes].reverse()) {
    values[gene.name] = gene.choices[rank % gene.choices.length];
    rank = Math.floor(rank / gene.choices.length);
  }
  return values;
}

/** `stem.width` → `stem width`. @param {string} name */
export function geneText(name) {
  return name.replace(".", " ");
}

/** @param {number|number[]} value */
export function choiceText(value) {
  return Array.isArray(value) ? `${value[1]} × ${value[0]}` : String(value);
}
