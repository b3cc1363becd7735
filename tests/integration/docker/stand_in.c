// Stands where the official tensorflow_model_server would. As the real one it has the version of its
// TensorFlow, here one that no op library is built for; where the shim lets it run it prints its arguments.
#include <stdio.h>

const char* TF_Version(void) { return "2.19.1"; }

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) puts(argv[i]);
  return 0;
}
