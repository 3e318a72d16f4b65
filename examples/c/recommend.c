// Answers from an attnrec file with the C API of onnxruntime. Each line of standard input is a
// question: history, exclude, candidates, separated by tabs, each with ids such as A,B,C. Where the
// file has tags, three more fields are tags that items must all have, have one of, or not have.
#include <inttypes.h>
#include <math.h>
#include <onnxruntime_c_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING
#define REAL ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
#define MOST_INPUTS 16

static const OrtApi *ort;
static OrtAllocator *memory;

static void check(OrtStatus *status) {
  if (status == NULL) return;
  fprintf(stderr, "error: %s\n", ort->GetErrorMessage(status));
  exit(1);
}

// The ids of "A,B,C", which is cut, as a tensor (1, n); a text as (1,) for an input of rank 1.
static OrtValue *tensor(char *text, ONNXTensorElementDataType type, size_t rank) {
  const char **ids = malloc((strlen(text) + 1) * sizeof *ids);
  int64_t n = 0, *numbers;
  if (rank == 1) ids[n++] = text;
  else for (char *id = strtok(text, ","); id; id = strtok(NULL, ",")) ids[n++] = id;
  OrtValue *value;
  check(ort->CreateTensorAsOrtValue(memory, (int64_t[]){1, n}, rank, type, &value));
  if (type == TEXT) check(ort->FillStringTensor(value, ids, n));
  else check(ort->GetTensorMutableData(value, (void **)&numbers));
  for (int64_t i = 0; i < n && type != TEXT; i++) numbers[i] = strtoll(ids[i], NULL, 10);
  free(ids);
  return value;
}

// Numbers (1, n), none of them known: no boost, no bound.
static OrtValue *unknown_numbers(int64_t n) {
  OrtValue *value;
  float *numbers;
  check(ort->CreateTensorAsOrtValue(memory, (int64_t[]){1, n}, 2, REAL, &value));
  check(ort->GetTensorMutableData(value, (void **)&numbers));
  for (int64_t i = 0; i < n; i++) numbers[i] = NAN;
  return value;
}

// A line "item <tab> score" for each item, best first, and an empty one.
static void print(OrtValue *items, OrtValue *scores, ONNXTensorElementDataType type) {
  OrtTensorTypeAndShapeInfo *shape;
  size_t n, length;
  float *score;
  int64_t *number;
  check(ort->GetTensorTypeAndShape(scores, &shape));
  check(ort->GetTensorShapeElementCount(shape, &n));
  ort->ReleaseTensorTypeAndShapeInfo(shape);
  check(ort->GetTensorMutableData(scores, (void **)&score));
  if (type != TEXT) check(ort->GetTensorMutableData(items, (void **)&number));
  for (size_t i = 0; i < n && score[i] > -3.4e38f; i++) {  // -inf: no more items
    if (type == TEXT) {
      check(ort->GetStringTensorElementLength(items, i, &length));
      char *id = malloc(length);
      check(ort->GetStringTensorElement(items, length, i, id));
      printf("%.*s\t%.9g\n", (int)length, id, score[i]);
      free(id);
    } else {
      printf("%" PRId64 "\t%.9g\n", number[i], score[i]);
    }
  }
  puts("");
  fflush(stdout);
}

int main(int argc, char **argv) {
  if (argc != 3) return fputs("usage: recommend FILE K < questions\n", stderr), 2;
  setenv("ORT_DISABLE_TELEMETRY", "1", 0);  // or onnxruntime from 1.29 on reports its use
  ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);
  if (ort == NULL) return fputs("error: onnxruntime is older than its header\n", stderr), 1;
  OrtEnv *env;
  OrtSessionOptions *options;
  OrtSession *session;
  check(ort->GetAllocatorWithDefaultOptions(&memory));
  check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "attnrec", &env));
  check(ort->CreateSessionOptions(&options));
  check(ort->SetIntraOpNumThreads(options, 1));  // fastest below 100,000 items
  check(ort->CreateSession(env, argv[1], options, &session));

  char *inputs[MOST_INPUTS], nothing[] = "", unknown[] = "-1";
  ONNXTensorElementDataType types[MOST_INPUTS];
  size_t ranks[MOST_INPUTS], n_inputs;
  int64_t widths[MOST_INPUTS][2];  // below 0: any
  check(ort->SessionGetInputCount(session, &n_inputs));
  for (size_t i = 0; i < n_inputs; i++) {
    OrtTypeInfo *info;
    const OrtTensorTypeAndShapeInfo *shape;
    check(ort->SessionGetInputName(session, i, memory, &inputs[i]));
    check(ort->SessionGetInputTypeInfo(session, i, &info));
    check(ort->CastTypeInfoToTensorInfo(info, &shape));
    check(ort->GetTensorElementType(shape, &types[i]));
    check(ort->GetDimensionsCount(shape, &ranks[i]));
    check(ort->GetDimensions(shape, widths[i], ranks[i]));
    ort->ReleaseTypeInfo(info);
  }

  const char *outputs[] = {"items", "scores"};
  char *line = NULL;
  for (size_t room = 0; getline(&line, &room, stdin) > 0;) {
    OrtValue *given[MOST_INPUTS], *found[2] = {NULL, NULL};
    char *rest = line;
    line[strcspn(line, "\n")] = 0;
    for (size_t i = 0; i < n_inputs; i++) {  // history, exclude, candidates, k, who, when, rules
      int is_rule = !strncmp(inputs[i], "require_", 8) || !strcmp(inputs[i], "forbid");
      char *field = i < 3 || is_rule ? strsep(&rest, "\t") : i == 3 ? argv[2] : NULL;
      if (field == NULL) field = ranks[i] == 1 && types[i] != TEXT ? unknown : nothing;
      given[i] = types[i] == REAL ? unknown_numbers(widths[i][1] > 0 ? widths[i][1] : 0)
                                  : tensor(field, types[i], ranks[i]);
    }
    check(ort->Run(session, NULL, (const char *const *)inputs, (const OrtValue *const *)given,
                   n_inputs, outputs, 2, found));
    print(found[0], found[1], types[0]);
    for (size_t i = 0; i < n_inputs; i++) ort->ReleaseValue(given[i]);
    for (size_t i = 0; i < 2; i++) ort->ReleaseValue(found[i]);
  }
  free(line);
  for (size_t i = 0; i < n_inputs; i++) check(ort->AllocatorFree(memory, inputs[i]));
  ort->ReleaseSession(session);
  ort->ReleaseSessionOptions(options);
  ort->ReleaseEnv(env);
}
