/* Finds the edit distance of pairs of strings, in a band around the diagonal of the table. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_LENGTH 4000

// EVOLVE-BLOCK-START
#define FIRST_BAND 8 // tune: 1 .. 1000 log
#define MORE_BAND 60 // tune: 1 .. 1000 log
#define FAR (MAX_LENGTH * 2)

static int table[MAX_LENGTH + 1][MAX_LENGTH + 2];

static int smallest(int a, int b, int c)
{
    int least = a < b ? a : b;
    return least < c ? least : c;
}

/* Gives the distance if it is not above `band`: then no step is further from the diagonal. */
static int distance_within(int band, const char *a, int a_length, const char *b, int b_length)
{
    for (int j = 0; j <= b_length; j++)
        table[0][j] = j;
    for (int i = 1; i <= a_length; i++) {
        int first = i - band > 1 ? i - band : 1;
        int last = i + band < b_length ? i + band : b_length;
        table[i][first - 1] = first == 1 ? i : FAR;
        for (int j = first; j <= last; j++) {
            int cost = a[i - 1] == b[j - 1] ? 0 : 1;
            table[i][j] = smallest(table[i - 1][j] + 1, table[i][j - 1] + 1,
                                   table[i - 1][j - 1] + cost);
        }
        table[i][last + 1] = FAR;
    }
    return abs(a_length - b_length) > band ? FAR : table[a_length][b_length];
}

static int distance(const char *a, int a_length, const char *b, int b_length)
{
    int band = FIRST_BAND;
    for (;;) {
        int found = distance_within(band, a, a_length, b, b_length);
        if (found <= band || band >= a_length + b_length)
            return found;
        band += MORE_BAND;
    }
}
// EVOLVE-BLOCK-END

static int read_line(char *line)
{
    if (!fgets(line, MAX_LENGTH + 2, stdin))
        exit(2);
    int length = (int)strcspn(line, "\n");
    line[length] = '\0';
    return length;
}

int main(void)
{
    static char a[MAX_LENGTH + 2], b[MAX_LENGTH + 2];
    read_line(a);
    for (int pairs = atoi(a); pairs > 0; pairs--) {
        int a_length = read_line(a);
        int b_length = read_line(b);
        printf("%d\n", distance(a, a_length, b, b_length));
    }
    return 0;
}
