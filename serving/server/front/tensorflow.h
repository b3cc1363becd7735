// The part of TensorFlow's C API that the front calls.
//
// The front is not linked with TensorFlow: Python, which loaded it, hands over the addresses of its
// functions. So one library of the front fits every version of TensorFlow.
#ifndef NANN_SERVING_SERVER_FRONT_TENSORFLOW_H_
#define NANN_SERVING_SERVER_FRONT_TENSORFLOW_H_

#include <cstddef>
#include <cstdint>

// The names and layouts of tensorflow/c/c_api.h, whose comments say what each function does.
struct TF_Session;
struct TF_Operation;
struct TF_Tensor;
struct TF_Status;
struct TF_Buffer;

struct TF_Output {
  TF_Operation* oper;
  int index;
};

struct TF_TString {
  alignas(8) char bytes[24];
};

namespace nann::front {

// Python fills this in, by the order of the members.
struct TensorFlow {
  TF_Status* (*new_status)();
  void (*delete_status)(TF_Status*);
  int (*get_code)(const TF_Status*);
  const char* (*message)(const TF_Status*);
  TF_Buffer* (*new_buffer_from_string)(const void*, size_t);
  void (*delete_buffer)(TF_Buffer*);
  void (*session_run)(TF_Session*, const TF_Buffer* run_options, const TF_Output* inputs,
                      TF_Tensor* const* input_values, int ninputs, const TF_Output* outputs,
                      TF_Tensor** output_values, int noutputs, const TF_Operation* const* targets,
                      int ntargets, TF_Buffer* run_metadata, TF_Status*);
  TF_Tensor* (*allocate_tensor)(int type, const int64_t* dims, int num_dims, size_t size);
  void (*tensor_from_proto)(const TF_Buffer* from, TF_Tensor* to, TF_Status*);
  void (*delete_tensor)(TF_Tensor*);
  int (*tensor_type)(const TF_Tensor*);
  int (*num_dims)(const TF_Tensor*);
  int64_t (*dim)(const TF_Tensor*, int axis);
  void* (*tensor_data)(const TF_Tensor*);
  const char* (*string_get_data_pointer)(const TF_TString*);
  size_t (*string_get_size)(const TF_TString*);
};

}  // namespace nann::front

#endif  // NANN_SERVING_SERVER_FRONT_TENSORFLOW_H_
