// A line a check, and an end after so many seconds whatever hangs.
'use strict'

const { isDeepStrictEqual, inspect } = require('node:util')

const TIME_LIMIT_S = 120

function expect(what, got, want) {
  if (!isDeepStrictEqual(got, want)) throw new Error(`${what}: got ${inspect(got)}, want ${inspect(want)}`)
}

/** Runs the checks, which each give how many things they checked, and ends the program; `setUp` comes first. */
async function run(name, checks, setUp = async () => {}) {
  let current = 'start'
  let failed = false
  const fail = (text) => {
    failed = true
    console.log(`FAIL ${name} ${current}: ${text.replaceAll('\n', ' ').slice(0, 500)}`)
  }
  setTimeout(() => {
    fail(`not done after ${TIME_LIMIT_S} s`)
    process.exit(1)
  }, TIME_LIMIT_S * 1000).unref()
  const all = Object.entries(checks)
  await setUp().catch((error) => { all.length = 0; fail(error.message) })
  for (const [label, check] of all) {
    current = label
    const start = process.hrtime.bigint()
    try {
      const count = await check()
      console.log(`ok ${name} ${label} ${count} ${(Number(process.hrtime.bigint() - start) / 1e9).toFixed(2)}`)
    } catch (error) {
      fail(error.stdout?.length ? String(error.stdout) : `${error.name}: ${error.message}`)
    }
  }
  process.exit(failed ? 1 : 0)
}

module.exports = { expect, run }
