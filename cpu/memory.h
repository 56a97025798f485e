// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdlib>

namespace deblurgs {

// Aligned memory that only grows, so that a training loop allocates in its first steps alone. Contents are lost when it
// grows.
template <class T> class Buffer {
  public:
    Buffer() = default;
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { std::free(data_); }

    // False when the memory cannot be had; the buffer is then empty.
    bool reserve(size_t count) {
        if (count <= capacity_) return true;
        // A tenth more, because the number of entries drifts from step to step.
        const size_t wanted = count + count / 10 + 64;
        std::free(data_);
        capacity_ = 0;
        data_ = nullptr;
        if (wanted > (size_t)-1 / 4 / sizeof(T)) return false;
        const size_t bytes = (wanted * sizeof(T) + 63) / 64 * 64;
        data_ = static_cast<T*>(std::aligned_alloc(64, bytes));
        if (!data_) return false;
        capacity_ = wanted;
        return true;
    }
    T* data() const { return data_; }
    size_t bytes() const { return capacity_ * sizeof(T); }

  private:
    T* data_ = nullptr;
    size_t capacity_ = 0;
};

} // namespace deblurgs
