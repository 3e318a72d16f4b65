// node ask_node.mjs MODEL < questions.json > answers.json

import { text } from "node:stream/consumers";
import * as example from "../../examples/node/recommend.mjs";
import { answerAll } from "./ask.mjs";

process.stdout.write(await answerAll(example, process.argv[2], await text(process.stdin)));
