// Puts the questions of a test to the `recommend` of an example. Whole numbers travel as texts,
// {"int64": "9007199254740993"}, because JSON.parse would round them.

const read = (_, value) => (value?.int64 === undefined ? value : BigInt(value.int64));
const written = (_, value) => (typeof value === "bigint" ? { int64: String(value) } : value);

/** Questions as JSON to answers as JSON; {"error": ...} where one is refused. */
export async function answerAll({ load, recommend }, file, questions) {
  const model = await load(file);
  const answers = [];
  for (const question of JSON.parse(questions, read)) {
    answers.push(await recommend(model, question).catch((error) => ({ error: String(error) })));
  }
  await model.release();
  return JSON.stringify(answers, written);
}
