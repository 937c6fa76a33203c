/*
 * Whether two functions have one C interface: what a caller passes, and what it gets, is as wide and of the same sort.
 * Integers and enumerations are one sort, whatever their sign; so are pointers, whose targets are compared too, unless
 * one of the types hides its target.
 */
#include <cstddef>
#include <cstdint>
#include <sys/types.h>
#include <type_traits>

/* Handles of MPI are passed as uintptr_t, which a library takes as the pointer or int that it calls a handle. */
template <typename Theirs> struct is_handle : std::false_type {};

template <typename Ours, typename Theirs> constexpr bool same_type();

template <typename Type> constexpr bool hides_its_target() {
  return std::is_void_v<Type> || std::is_class_v<Type> || std::is_function_v<Type>;
}

template <typename Ours, typename Theirs> constexpr bool same_target() {
  if constexpr (hides_its_target<Ours>() || hides_its_target<Theirs>()) return true;
  else return same_type<Ours, Theirs>();
}

template <typename Ours, typename Theirs> constexpr bool same_type() {
  using A = std::remove_cv_t<Ours>;
  using B = std::remove_cv_t<Theirs>;
  if constexpr (std::is_void_v<A> || std::is_void_v<B>) return std::is_void_v<A> && std::is_void_v<B>;
  else if constexpr (std::is_same_v<A, uintptr_t> && is_handle<B>::value) return sizeof(B) <= sizeof(A);
  else if constexpr (std::is_pointer_v<A> && std::is_pointer_v<B>)
    return same_target<std::remove_pointer_t<A>, std::remove_pointer_t<B>>();
  else if constexpr (sizeof(A) != sizeof(B)) return false;
  else if constexpr (std::is_class_v<A> && std::is_class_v<B>) return alignof(A) == alignof(B);
  else return (std::is_integral_v<A> || std::is_enum_v<A>) && (std::is_integral_v<B> || std::is_enum_v<B>);
}

template <typename Ours, typename Theirs> struct same_function : std::false_type {};

template <typename R1, typename... A1, typename R2, typename... A2>
struct same_function<R1 (*)(A1...), R2 (*)(A2...)> {
  static constexpr bool all() {
    if constexpr (sizeof...(A1) != sizeof...(A2)) return false;
    else return same_type<R1, R2>() && (same_type<A1, A2>() && ...);
  }
  static constexpr bool value = all();
};

template <typename R1, typename... A1, typename R2, typename... A2>
struct same_function<R1 (*)(A1...), R2 (*)(A2...) noexcept> : same_function<R1 (*)(A1...), R2 (*)(A2...)> {};
